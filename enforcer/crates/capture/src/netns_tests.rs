//! Needs root: makes real namespaces and removes them.

use std::net::TcpStream;
use std::net::{TcpListener, UdpSocket};

use super::*;

struct Pins(tempfile::TempDir);

impl Pins {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare_pin_dir(dir.path()).unwrap();
        prepare_pin_dir(dir.path()).unwrap();
        Pins(dir)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        remove_pin_dir(self.0.path()).unwrap();
    }
}

#[test]
fn a_namespace_holds_lo_alone_and_our_listeners() {
    let pins = Pins::new();
    let pin = pins.0.path().join("one");
    let netns = Netns::create(&pin).unwrap();
    assert_ne!(netns.cookie, 0);
    assert_eq!(Netns::open(&pin).unwrap().cookie, netns.cookie);

    let prepared = std::sync::atomic::AtomicUsize::new(0);
    let count = |_: BorrowedFd<'_>| {
        prepared.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    };
    let listeners = netns.open_listeners(&count).unwrap();
    assert_eq!(listeners.len(), 6);
    // Injector and resolver, over TCP in both families.
    assert_eq!(prepared.load(std::sync::atomic::Ordering::Relaxed), 4);
    for listener in &listeners {
        assert_eq!(sys::netns_cookie(listener.as_fd()).unwrap(), netns.cookie);
    }

    inside(&netns.file, || {
        let devices: Vec<_> = fs::read_to_string("/proc/thread-self/net/dev")?
            .lines()
            .skip(2)
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect();
        // Some kernels add unused tunnel devices to each namespace; none of them is up or has a way out.
        assert!(devices.contains(&"lo".to_owned()));
        for address in ["127.0.0.1:923", "[::1]:923", "127.0.0.1:53", "[::1]:53"] {
            TcpStream::connect(address)?;
        }
        for address in ["192.0.0.8:0", "[100::1]:0"] {
            UdpSocket::bind(address)?;
        }
        // No route leads anywhere.
        let out = UdpSocket::bind("0.0.0.0:0")?.connect("198.51.100.1:9");
        assert_eq!(out.unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
        Ok(())
    })
    .unwrap();

    // A restarted keeper opens them again, over connections that are still closing.
    drop(listeners);
    netns.open_listeners(&|_| Ok(())).unwrap();

    Netns::unpin(&pin).unwrap();
    assert!(!pin.exists());
    Netns::unpin(&pin).unwrap();
}

#[test]
fn a_listener_is_not_shared() {
    let pins = Pins::new();
    let pin = pins.0.path().join("one");
    let netns = Netns::create(&pin).unwrap();
    let _listeners = netns.open_listeners(&|_| Ok(())).unwrap();
    inside(&netns.file, || {
        for address in ["127.0.0.1:923", "0.0.0.0:923", "[::1]:53"] {
            assert!(TcpListener::bind(address).is_err(), "{address}");
        }
        Ok(())
    })
    .unwrap();
    Netns::unpin(&pin).unwrap();
}

#[test]
fn a_failed_pin_leaves_nothing() {
    let pins = Pins::new();
    let pin = pins.0.path().join("one");
    fs::write(&pin, "").unwrap();
    assert!(Netns::create(&pin).is_err(), "a pin is never replaced");
    assert!(Netns::create(&pins.0.path().join("none/one")).is_err());
}
