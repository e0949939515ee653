//! What a worker that was taken over would try, one line of output per attempt: `NAME = ok` or `NAME = ERROR`.
//!
//! A process of its own, because confinement is for good. Runs as root, so that file permissions and capabilities
//! stop nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};

use enforcer_capture::confine::confine;

/// `free|confined|late DIR VICTIM PORT`: DIR holds `policies`, `worker` and `outside`, VICTIM is a process, and
/// somebody listens on PORT.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [mode, dir, victim, port] = arguments else { return ExitCode::from(2) };
    let (dir, victim) = (Path::new(dir), victim.parse::<usize>().unwrap());
    let confined = || confine(&[&dir.join("policies"), &dir.join("missing")], &[&dir.join("worker")]);
    match mode.as_str() {
        "confined" => eprintln!("{}", confined().unwrap()),
        "late" => {
            let (hold, held) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || held.recv());
            eprintln!("{}", confined().unwrap_err());
            drop(hold);
            drop(thread.join());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    files(dir, victim);
    sockets(port.parse().unwrap());
    processes(victim);
    kernel();
    // The same holds in a thread that starts later.
    std::thread::spawn(|| report("thread: read /etc/shadow", File::open("/etc/shadow"))).join().unwrap();
    ExitCode::SUCCESS
}

fn files(dir: &Path, victim: usize) {
    let outside = dir.join("outside");
    let policy = dir.join("policies/bot.yaml");
    report("read /etc/shadow", File::open("/etc/shadow"));
    report("read /etc/shadow through /proc", File::open("/proc/self/root/etc/shadow"));
    report("read a file outside", fs::read(outside.join("file")));
    report("list a folder outside", fs::read_dir(&outside));
    report("write a file outside", File::create(outside.join("new")));
    report("write a policy", File::options().write(true).open(&policy));
    report("add a policy", File::create(dir.join("policies/new.yaml")));
    report("remove a policy", fs::remove_file(dir.join("policies/old.yaml")));
    report("own a policy", std::os::unix::fs::chown(&policy, Some(61500), None));
    report("move a policy", fs::rename(&policy, dir.join("worker/bot.yaml")));
    drop(fs::rename(dir.join("worker/bot.yaml"), &policy));
    report("link", std::os::unix::fs::symlink("/etc/shadow", dir.join("worker/link")));
    report("open memory", File::options().write(true).open(format!("/proc/{victim}/mem")));
    report("change /proc", File::options().write(true).open("/proc/self/oom_score_adj"));

    report("may: read policies", fs::read_dir(dir.join("policies")).and_then(|_| fs::read(&policy)));
    report("may: read /proc", fs::read(format!("/proc/{victim}/cgroup")));
    report("may: read randomness", File::open("/dev/urandom"));
    let own = || -> io::Result<()> {
        let folder = dir.join("worker/receipts");
        fs::create_dir(&folder)?;
        let mut file = File::create(folder.join("a"))?;
        file.write_all(b"kept")?;
        file.set_len(2)?;
        file.sync_all()?;
        fs::rename(folder.join("a"), dir.join("worker/b"))?;
        assert_eq!(fs::read(dir.join("worker/b"))?, b"ke");
        fs::remove_file(dir.join("worker/b"))?;
        fs::remove_dir(folder)
    };
    report("may: keep its own files", own());
}

fn sockets(port: u16) {
    let socket = |family: i32, kind: i32, protocol: i32| {
        call(libc::SYS_socket, &[family as usize, kind as usize, protocol as usize])
    };
    report("packet socket", socket(libc::AF_PACKET, libc::SOCK_RAW, 0));
    report("vsock", socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0));
    report("netlink socket", socket(libc::AF_NETLINK, libc::SOCK_RAW, 0));
    report("unix socket", socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
    report("raw socket", socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP));
    report("unix datagrams", std::os::unix::net::UnixDatagram::pair());
    report("bind tcp", bind_only());
    report("listen tcp", TcpListener::bind("127.0.0.1:0"));

    report("may: connect tcp", TcpStream::connect(("127.0.0.1", port)));
    report(
        "may: udp",
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", ("127.0.0.1", port))),
    );
    report("may: pair of streams", UnixStream::pair());
}

/// Without `listen`, which is refused as well.
fn bind_only() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    Ok(bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?)
}

fn processes(victim: usize) {
    const PTRACE_SEIZE: usize = 0x4206;
    const SIGCHLD: usize = 17;
    report("start a program", Command::new("/bin/true").status());
    // Would take this process's place; what is missing cannot, and says so.
    report("exec", call(libc::SYS_execve, &[c"/missing".as_ptr() as usize, 0, 0]));
    report("fork", call(libc::SYS_clone, &[SIGCHLD, 0, 0, 0, 0]));
    report("signal", call(libc::SYS_kill, &[victim, 0]));
    report("signal a thread", call(libc::SYS_tgkill, &[victim, victim, 0]));
    report("read memory", call(libc::SYS_process_vm_readv, &[victim, 0, 0, 0, 0, 0]));
    report("write memory", call(libc::SYS_process_vm_writev, &[victim, 0, 0, 0, 0, 0]));
    report("ptrace", call(libc::SYS_ptrace, &[PTRACE_SEIZE, victim, 0, 0]));
    let pidfd = call(libc::SYS_pidfd_open, &[victim, 0]).unwrap();
    report("take a descriptor", call(libc::SYS_pidfd_getfd, &[pidfd, 0, 0]));
    report("limit another", call(libc::SYS_prlimit64, &[victim, 0, 0, 0]));
    report("priority of another", call(libc::SYS_setpriority, &[0, victim, 1]));
    report("new namespace", call(libc::SYS_unshare, &[libc::CLONE_NEWUTS as usize]));
    report("enter a namespace", call(libc::SYS_setns, &[usize::MAX, 0]));
}

fn kernel() {
    const BPF_PROG_LOAD: usize = 5;
    let executable = (libc::PROT_READ | libc::PROT_EXEC) as usize;
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    report("load bpf", call(libc::SYS_bpf, &[BPF_PROG_LOAD, 0, 0]));
    report("mount", call(libc::SYS_mount, &[0, 0, 0, 0, 0]));
    report("change root", call(libc::SYS_pivot_root, &[0, 0]));
    report("reboot", call(libc::SYS_reboot, &[0, 0, 0, 0]));
    report("open by handle", call(libc::SYS_open_by_handle_at, &[usize::MAX, 0, 0]));
    report("personality", call(libc::SYS_personality, &[0xffff_ffff]));
    report("dumpable again", call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0]));
    report("executable memory", call(libc::SYS_mmap, &[0, 4096, executable, private, usize::MAX, 0]));
    report("io_uring", call(libc::SYS_io_uring_setup, &[0, 0]));
    report("newer than the list", call(463 + 300, &[]));
}

/// A system call as an attacker makes it: past every library.
fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = six;
    // SAFETY: the callers pass numbers, null, or strings that live for ever; none of the calls writes memory.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if number == libc::SYS_clone && result == 0 {
        // SAFETY: the child of the fork ends here, with nothing run at its exit.
        unsafe { libc::_exit(0) };
    }
    Ok(result as usize)
}

fn report<T>(name: &str, result: io::Result<T>) {
    let outcome = match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::EACCES) => "EACCES".to_owned(),
            Some(libc::ENOSYS) => "ENOSYS".to_owned(),
            _ => format!("other: {error}"),
        },
    };
    println!("{name} = {outcome}");
}
