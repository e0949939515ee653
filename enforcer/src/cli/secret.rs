//! `secret set | ls | show | rm`: names and bindings; values go in and never come out.
//!
//! A value comes from a prompt without echo, from standard input or from a file, never from an
//! argument: those are visible to everyone in `/proc`.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use serde_json::Value;
use zeroize::Zeroizing;

use super::failure::FAILED;
use super::output::moment;
use super::{Context, Ended, Failure, Output};
use crate::control::client::escape;
use crate::text::shown;

/// As the vault's own bound, and one more for the newline that is taken off.
const MAX_VALUE: usize = 64 * 1024 + 2;

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Store a secret, or a new version of it; the value comes from a prompt, stdin or a file
    Set(SetArgs),
    /// List the secrets (never their values)
    #[command(alias = "list")]
    Ls,
    /// Show one secret's metadata (never its value)
    Show {
        /// Name of the secret
        name: String,
    },
    /// Remove a secret, all versions of it
    Rm {
        /// Name of the secret
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Name of the secret, as policies refer to it
    pub(super) name: String,
    /// Where it may be sent: `api.example.com`, `https://api.example.com:8443`
    #[arg(long, required = true, value_name = "HOST", value_delimiter = ',')]
    pub(super) host: Vec<String>,
    /// Read the value from this file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Dangerous: let `--host` be a wildcard such as `*.example.com`
    #[arg(long)]
    pub(super) wildcard: bool,
    /// Dangerous: let `--host` be `http://…`; the value then travels unencrypted
    #[arg(long)]
    pub(super) plaintext: bool,
}

pub(super) fn secret(command: SecretCommand, context: &Context, out: &mut Output) -> Ended {
    match command {
        SecretCommand::Set(args) => set(&args, context, out),
        SecretCommand::Ls => list(context, out),
        SecretCommand::Show { name } => show(&name, context, out),
        SecretCommand::Rm { name } => {
            let answer: Value = context.client()?.json(http::Method::DELETE, &path(&name), Vec::new())?;
            if context.json {
                out.json(&answer, true)?;
            } else {
                out.line(format!("removed secret `{}`", shown(&name)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn set(args: &SetArgs, context: &Context, out: &mut Output) -> Ended {
    let client = context.client()?;
    client.reach()?;
    let value = value(args)?;
    let answer: Value = client.json(http::Method::PUT, &set_path(args), value.to_vec())?;
    if context.json {
        out.json(&answer, true)?;
    } else {
        let version = answer["version"].as_u64().unwrap_or(0);
        let hosts = args.host.join(", ");
        out.line(format!("stored `{}` version {version}, for {} only", shown(&args.name), shown(&hosts)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", escape(name))
}

pub(super) fn set_path(args: &SetArgs) -> String {
    let mut path = format!("{}?host={}", path(&args.name), escape(&args.host.join(",")));
    for (name, set) in [("wildcard", args.wildcard), ("plaintext", args.plaintext)] {
        if set {
            path.push_str(&format!("&{name}=true"));
        }
    }
    path
}

fn list(context: &Context, out: &mut Output) -> Ended {
    let secrets: Vec<Value> = context.client()?.get("/v1/secrets")?;
    if context.json {
        out.json(&secrets, true)?;
    } else if secrets.is_empty() {
        out.line("there are no secrets; `enforcer secret set NAME --host HOST` stores one")?;
    } else {
        let rows: Vec<Vec<String>> = secrets
            .iter()
            .map(|s| {
                let name = s["name"].as_str().unwrap_or_default().to_owned();
                vec![name, s["version"].to_string(), hosts(s), at(&s["created"]), at(&s["last_used"])]
            })
            .collect();
        out.table(&["NAME", "VERSION", "HOSTS", "STORED", "LAST USED"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, context: &Context, out: &mut Output) -> Ended {
    let secret: Value = context.client()?.get(&path(name))?;
    if context.json {
        out.json(&secret, true)?;
    } else {
        out.line(format!("name       {}", shown(secret["name"].as_str().unwrap_or_default())))?;
        out.line(format!("version    {}", secret["version"]))?;
        out.line(format!("hosts      {}", shown(&hosts(&secret))))?;
        out.line(format!("length     {} bytes", secret["length"]))?;
        out.line(format!("stored     {}", at(&secret["created"])))?;
        out.line(format!("last used  {}", at(&secret["last_used"])))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn hosts(secret: &Value) -> String {
    let hosts: Vec<&str> =
        secret["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    hosts.join(", ")
}

fn at(value: &Value) -> String {
    value.as_i64().map_or_else(|| "never".to_owned(), moment)
}

/// The value, from where the arguments say, without one newline at its end.
fn value(args: &SetArgs) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let stdin = io::stdin();
    let value = match &args.file {
        Some(file) if file != Path::new("-") => {
            let opened = std::fs::File::open(file);
            opened.and_then(read_value).map_err(|error| {
                Failure::new(
                    FAILED,
                    anyhow::Error::new(error).context(format!("cannot read {}", file.display())),
                )
            })?
        }
        None if stdin.is_terminal() => prompt(&args.name)?,
        Some(_) | None => read_value(stdin.lock()).map_err(|error| {
            Failure::new(
                FAILED,
                anyhow::Error::new(error).context("cannot read the value from standard input"),
            )
        })?,
    };
    if value.is_empty() {
        return Err(Failure::text(FAILED, "the value is empty")
            .hint("type it at the prompt, or pipe it: `enforcer secret set NAME --host HOST < FILE`"));
    }
    Ok(value)
}

/// All of a source, within the bound; one trailing newline (LF or CR LF) is not part of the value.
pub(super) fn read_value(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room from the start: a vector that grows leaves its old memory behind.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 1));
    source.take(MAX_VALUE as u64 + 1).read_to_end(&mut value)?;
    if value.len() > MAX_VALUE {
        return Err(io::Error::other("the value is larger than 64 KiB"));
    }
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    Ok(value)
}

fn prompt(name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let stdin = io::stdin();
    let mut stderr = io::stderr();
    let told = write!(stderr, "Value of `{}` (not shown): ", shown(name)).and_then(|()| stderr.flush());
    told.map_err(Failure::from)?;
    let quiet = Quiet::new(stdin.as_fd())?;
    let value = typed(stdin.lock());
    drop(quiet);
    writeln!(stderr).map_err(Failure::from)?;
    value.map_err(|error| Failure::new(FAILED, error))
}

/// A line typed byte by byte: the terminal's own line buffer would cut a long paste at 4096 bytes.
pub(super) fn typed(mut source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 1));
    let mut byte = Zeroizing::new([0_u8]);
    loop {
        if source.read(&mut *byte)? == 0 {
            return Ok(value);
        }
        match byte[0] {
            b'\n' | b'\r' => return Ok(value),
            // Ctrl-C and Ctrl-D, which the terminal no longer handles for us.
            0x03 => {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted; nothing was stored"));
            }
            0x04 => return Ok(value),
            0x08 | 0x7f => {
                value.pop();
            }
            other if value.len() < MAX_VALUE => value.push(other),
            _ => return Err(io::Error::other("the value is larger than 64 KiB")),
        }
    }
}

/// No echo while this lives; the terminal is put back when it ends, however it ends.
struct Quiet<'a> {
    terminal: std::os::fd::BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: std::os::fd::BorrowedFd<'a>) -> Result<Self, Failure> {
        let before = tcgetattr(terminal).map_err(io::Error::from)?;
        let mut quiet = before.clone();
        // Signals off as well: Ctrl-C would end us with the echo still off.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &quiet).map_err(io::Error::from)?;
        Ok(Quiet { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Flush, &self.before) {
            tracing::warn!(%error, "the terminal could not be put back; `stty sane` does it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_is_not_part_of_the_value() {
        let table: [(&[u8], &[u8]); 7] = [
            (b"abc", b"abc"),
            (b"abc\n", b"abc"),
            (b"abc\r\n", b"abc"),
            (b"abc\n\n", b"abc\n"),
            (b"abc\r", b"abc\r"),
            (b"\n", b""),
            (b"", b""),
        ];
        for (given, expected) in table {
            assert_eq!(read_value(given).unwrap().as_slice(), expected);
        }
        let mut whole = vec![b'x'; 64 * 1024];
        assert_eq!(read_value(whole.as_slice()).unwrap().len(), 64 * 1024);
        whole.extend([b'x'; 3]);
        assert!(read_value(whole.as_slice()).is_err());
    }

    #[test]
    fn a_typed_line_can_be_corrected_and_given_up() {
        assert_eq!(typed(&b"abx\x7fc\rrest"[..]).unwrap().as_slice(), b"abc");
        assert_eq!(typed(&b"\x7f\x08a\n"[..]).unwrap().as_slice(), b"a");
        assert_eq!(typed(&b"abc\x04"[..]).unwrap().as_slice(), b"abc");
        assert_eq!(typed(&b"abc"[..]).unwrap().as_slice(), b"abc");
        assert_eq!(typed(&b"abc\x03"[..]).unwrap_err().kind(), io::ErrorKind::Interrupted);
        let long = [vec![b'k'; 20_000], b"\n".to_vec()].concat();
        assert_eq!(typed(long.as_slice()).unwrap().len(), 20_000);
    }

    #[test]
    fn nothing_is_echoed_and_the_terminal_is_put_back() {
        use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let terminal = ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let modes = || tcgetattr(&terminal).unwrap().local_modes;
        let before = modes();
        assert!(before.contains(LocalModes::ECHO));
        let quiet = Quiet::new(terminal.as_fd()).unwrap();
        assert!(!modes().intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        drop(quiet);
        assert_eq!(modes(), before);
    }
}
