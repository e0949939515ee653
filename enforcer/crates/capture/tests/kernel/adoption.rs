//! The boundary outlives the keeper; a new one takes it over, and notices when it is not what it was.
use std::os::fd::AsFd;

use enforcer_capture::kernel::{Kernel, KernelError, Layout, inspect, try_programs};
use enforcer_capture::records::Records;

use crate::stage::{self, Stage};

#[test]
fn with_the_keeper_gone_everything_still_holds_and_the_next_one_takes_over() {
    let mut stage = Stage::new();
    let agent = stage.agent("a");
    let stranger = stage.stranger("b");
    let [v4, _v6] = agent.netns.injectors();
    let refused = "print(attempt(socket(AF_INET, SOCK_DGRAM).sendto, b'x', ('203.0.113.5', 443)))";
    let connect = "s = socket(AF_INET, SOCK_STREAM); s.connect(('203.0.113.5', 443)); s.close()";

    stage.kill_keeper();
    assert_eq!(agent.run(refused), "EPERM");
    assert_eq!(stranger.run("print(attempt(socket, AF_INET, SOCK_STREAM))"), "EPERM");
    agent.run(connect);

    stage.start().unwrap();
    stage.kernel().verify().unwrap();
    assert_eq!(stage.kernel().governed().unwrap(), [agent.cgroup_id], "the agents of before are still known");
    // The record of the time without a keeper is there, and the connection of a socket from before is understood.
    let records = Records::new(stage.kernel().records().unwrap()).unwrap();
    let (socket, _) = v4.accept().unwrap();
    let origin = records.take(socket.as_fd(), agent.cgroup_id, agent.netns.cookie).unwrap();
    assert_eq!(origin.dst.0.to_string(), "203.0.113.5:443");
    assert_eq!(agent.run(refused), "EPERM");
    assert!(stage.reasons(&agent).len() >= 2, "one event from before, one from after");
}

#[test]
fn a_takeover_under_load_lets_nothing_through() {
    let mut stage = Stage::new();
    let agent = stage.agent("a");
    let program = "
import time
s = socket(AF_INET, SOCK_DGRAM); end = time.monotonic() + 2; seen = {}
while time.monotonic() < end:
    answer = attempt(s.sendto, b'x', ('203.0.113.5', 443)); seen[answer] = seen.get(answer, 0) + 1
print(list(seen), sum(seen.values()) > 1000)
";
    let printed = std::thread::scope(|scope| {
        let client = scope.spawn(|| agent.run(program));
        for _ in 0..3 {
            stage.kill_keeper();
            stage.start().unwrap();
        }
        client.join().unwrap()
    });
    // Without the programs it would be ENETUNREACH: this namespace has no route.
    assert_eq!(printed, "['EPERM'] True");
}

/// A restart that would load the very same programs leaves them, and one that cannot tell loads them.
#[test]
fn programs_stay_where_they_are_unless_something_about_them_has_changed() {
    let mut stage = Stage::new();
    let pins = stage.layout().pins;
    let workload = stage.cgroups.root.join("workload");
    std::fs::create_dir(&workload).unwrap();
    let attached = pins.join("attached/x");
    let mut restart = |change: &dyn Fn()| {
        drop(stage.kernel().attach("x", &workload).unwrap());
        let before = (stage::programs(&pins), stage::programs(&attached));
        assert!(before.0.len() >= 15 && before.1.len() >= 15, "{before:?}");
        stage.kill_keeper();
        change();
        stage.start().unwrap();
        stage.kernel().verify().unwrap();
        let kept = stage.kernel().attach("x", &workload).unwrap();
        kept.verify().unwrap();
        (before.0 == stage::programs(&pins), before.1 == stage::programs(&attached))
    };
    let forget = |pin: &std::path::Path| std::fs::remove_file(pin).unwrap();
    assert_eq!(restart(&|| ()), (true, true));
    assert_eq!(restart(&|| forget(&pins.join("build"))), (false, true));
    assert_eq!(restart(&|| forget(&attached.join("build"))), (true, false));
    assert_eq!(restart(&|| forget(&attached.join("program_device"))), (true, false));
    assert_eq!(restart(&|| forget(&pins.join("link_connect4"))), (false, true));
    assert_eq!(restart(&|| forget(&attached.join("link_egress"))), (true, false));
    // Another map: the programs in force do not know it.
    assert_eq!(restart(&|| forget(&pins.join("map_COUNTERS"))), (false, false));
    assert_eq!(restart(&|| ()), (true, true));
    stage.kernel().detach("x").unwrap();
    assert!(!attached.exists(), "nothing is left");
    std::fs::remove_dir(&workload).unwrap();
}

#[test]
fn a_missing_pin_is_noticed() {
    let stage = Stage::new();
    stage.kernel().verify().unwrap();
    let pins = stage.layout().pins;
    for pin in ["link_connect4", "map_AGENTS"] {
        let aside = pins.join("aside");
        std::fs::rename(pins.join(pin), &aside).unwrap();
        let error = stage.kernel().verify().unwrap_err();
        assert!(matches!(error, KernelError::Unpinned { .. }), "{error:?}");
        assert!(error.to_string().contains(pin), "{error}");
        std::fs::rename(&aside, pins.join(pin)).unwrap();
        stage.kernel().verify().unwrap();
    }
}

#[test]
fn a_managed_root_made_again_is_not_the_same() {
    let mut stage = Stage::new();
    stage.cgroups.remove().unwrap();
    let error = stage.kernel().verify().unwrap_err();
    assert!(matches!(error, KernelError::ManagedRoot { .. }), "{error:?}");
    std::fs::create_dir(&stage.cgroups.root).unwrap();
    let error = stage.kernel().verify().unwrap_err();
    assert!(matches!(error, KernelError::Detached { .. }), "{error:?}");
    assert!(error.hint().contains("restart the daemon"), "{}", error.hint());

    // The dead links are replaced, and hold again.
    stage.kill_keeper();
    stage.start().unwrap();
    stage.kernel().verify().unwrap();
    let stranger = stage.stranger("b");
    assert_eq!(stranger.run("print(attempt(socket, AF_INET, SOCK_STREAM))"), "EPERM");
}

#[test]
fn the_pins_of_another_instance_are_left_alone() {
    let stage = Stage::new();
    let other = Stage::new();
    let mixed = Layout { managed_root: other.cgroups.root.clone(), pins: stage.layout().pins };
    let error = Kernel::start(&mixed).unwrap_err();
    assert!(matches!(error, KernelError::Foreign { .. }), "{error:?}");
    stage.kernel().verify().unwrap();
    other.kernel().verify().unwrap();
}

/// Stands for an upgrade: the pinned agents are of another shape than this version's.
#[test]
fn maps_of_another_version_are_replaced_and_their_agents_go_on() {
    let mut stage = Stage::new();
    let agent = stage.agent("a");
    let [v4, _v6] = agent.netns.injectors();
    stage.kill_keeper();
    let pins = stage.layout().pins;
    stage::pin_other_agents(&pins.join("map_AGENTS"), &[agent.cgroup_id]);
    std::fs::rename(pins.join("map_COUNTERS"), pins.join("map_RECORDS")).unwrap();
    // Of a map that this version does not have at all.
    std::fs::rename(pins.join("map_EVENTS"), pins.join("map_OWNERS")).unwrap();

    stage.start().unwrap();
    stage.kernel().verify().unwrap();
    assert_eq!(stage.kernel().governed().unwrap(), [agent.cgroup_id]);
    let origin = std::thread::scope(|scope| {
        scope.spawn(|| {
            agent.run("s = socket(AF_INET, SOCK_STREAM); s.connect(('203.0.113.5', 443)); s.recv(1)")
        });
        let records = Records::new(stage.kernel().records().unwrap()).unwrap();
        let (socket, _) = v4.accept().unwrap();
        records.take(socket.as_fd(), agent.cgroup_id, agent.netns.cookie).unwrap()
    });
    assert_eq!(origin.dst.0.to_string(), "203.0.113.5:443");
    for gone in ["map_OWNERS", "old_AGENTS", "old_RECORDS"] {
        assert!(!pins.join(gone).exists(), "{gone}");
    }
}

#[test]
fn unmanage_leaves_nothing_and_may_be_repeated() {
    let stage = Stage::new();
    let layout = stage.layout();
    let stranger = stage.stranger("b");
    let program = "print(attempt(socket, AF_INET, SOCK_STREAM))";
    assert_eq!(stranger.run(program), "EPERM");
    Kernel::unmanage(&layout).unwrap();
    assert!(!layout.pins.exists());
    // The keeper's own descriptors keep nothing attached.
    assert!(stranger.run(program).starts_with("<socket.socket"));
    Kernel::unmanage(&layout).unwrap();
}

#[test]
fn a_host_without_bpffs_gets_one() {
    let stage = Stage::new();
    let pins = std::path::Path::new("/sys/fs/bpf/enforcer-kernel-test");
    let layout = Layout { pins: pins.to_owned(), ..stage.layout() };
    // In a mount namespace of its own thread: the host's mounts stay as they are.
    std::thread::spawn(move || {
        use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        // SAFETY: no other thread shares what this thread leaves, and it ends with the test.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        // Not mounted at all is as good.
        while unmount("/sys/fs/bpf", UnmountFlags::DETACH).is_ok() {}
        let kernel = Kernel::start(&layout).unwrap();
        kernel.verify().unwrap();
        assert!(layout.pins.join("link_egress").exists());
        Kernel::unmanage(&layout).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_start_that_cannot_stand_says_why() {
    let stage = Stage::new();
    let layout = stage.layout();
    let problem = |layout: Layout| Kernel::start(&layout).unwrap_err();

    let error = problem(Layout { managed_root: "/tmp".into(), ..layout.clone() });
    assert!(matches!(error, KernelError::NoCgroup2 { .. }), "{error:?}");
    let error = problem(Layout { managed_root: layout.managed_root.join("nowhere"), ..layout.clone() });
    assert!(
        matches!(error, KernelError::ManagedRoot { .. }) && error.hint().contains("cgroup2"),
        "{error:?}"
    );
    let mount = layout.managed_root.parent().unwrap().to_owned();
    let error = problem(Layout { managed_root: mount, ..layout.clone() });
    assert!(matches!(error, KernelError::RootOfHierarchy { .. }), "{error:?}");
    let error = problem(Layout { pins: "/tmp/enforcer-pins".into(), ..layout.clone() });
    assert!(
        matches!(error, KernelError::NoBpffs { .. }) && error.hint().contains("mount -t bpf"),
        "{error:?}"
    );
    assert!(!std::path::Path::new("/tmp/enforcer-pins").exists());
    let error = crate::stage::unprivileged(|| problem(layout.clone()));
    assert!(matches!(error, KernelError::NotRoot), "{error:?}");
}

#[test]
fn an_inspection_tells_whole_pins_from_broken_ones_and_ours_from_others() {
    let stage = Stage::new();
    let layout = stage.layout();
    assert_eq!(try_programs().unwrap(), inspect(&layout).unwrap().hooks);
    let whole = inspect(&layout).unwrap();
    assert_eq!((whole.attached, whole.others.len()), (whole.hooks, 0), "{whole:?}");
    assert!(whole.unpinned.is_empty() && whole.elsewhere.is_empty() && whole.missing_maps.is_empty());

    // Another instance's programs on the same managed root.
    let other = Layout { pins: layout.pins.with_file_name("other"), ..layout.clone() };
    let others = Kernel::start(&other).unwrap();
    let found = inspect(&layout).unwrap();
    assert_eq!((found.attached, found.others.len()), (found.hooks, found.hooks), "{found:?}");
    assert!(found.others.iter().all(|(_, count)| *count == 1), "{found:?}");
    drop(others);
    Kernel::unmanage(&other).unwrap();

    std::fs::remove_file(layout.pins.join("link_connect4")).unwrap();
    std::fs::remove_file(layout.pins.join("map_AGENTS")).unwrap();
    let broken = inspect(&layout).unwrap();
    assert_eq!(broken.unpinned, ["connect4"]);
    assert_eq!(broken.missing_maps, ["AGENTS"]);
    assert_eq!(broken.attached, broken.hooks - 1);
}
