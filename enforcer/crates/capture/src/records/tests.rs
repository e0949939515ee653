use super::*;

/// A SYN as the kernel saves it: IP header, TCP header, these options.
fn syn(version: u8, options: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0, "options are padded to words");
    let mut packet = match version {
        4 => {
            let mut header = vec![0; 20];
            header[0] = 0x45;
            header
        }
        _ => {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[6] = 6;
            header
        }
    };
    let mut tcp = [0; 20];
    tcp[12] = ((5 + options.len() / 4) as u8) << 4;
    packet.extend(tcp);
    packet.extend(options);
    packet
}

const OPTION: [u8; 12] = [254, 12, 0xE4, 0xF0, 1, 2, 3, 4, 5, 6, 7, 8];
const TAG: u64 = 0x0102_0304_0506_0708;

#[test]
fn the_tag_is_found_among_other_options() {
    let mss = [2, 4, 5, 180];
    let window = [1, 3, 3, 7];
    for version in [4, 6] {
        assert_eq!(tag(&syn(version, &OPTION)), Some(TAG));
        assert_eq!(tag(&syn(version, &[&mss[..], &window, &OPTION].concat())), Some(TAG));
    }
}

#[test]
fn anything_else_carries_no_tag() {
    let mut other_magic = OPTION;
    other_magic[2] = 0;
    let mut other_length = OPTION;
    other_length[1] = 11;
    for options in
        [&[][..], &[1, 1, 1, 0], &other_magic, &other_length, &[2, 0, 0, 0], &[254, 40, 0xE4, 0xF0]]
    {
        assert_eq!(tag(&syn(4, options)), None, "{options:?}");
    }
    let end_before = [&[0, 0, 0, 0][..], &OPTION].concat();
    assert_eq!(tag(&syn(4, &end_before)), None, "options end at kind 0");
    let mut extension = syn(6, &OPTION);
    extension[6] = 43;
    assert_eq!(tag(&extension), None, "a routing header is not TCP");
}

#[test]
fn every_cut_of_a_syn_is_refused_and_none_panics() {
    for version in [4, 6] {
        let packet = syn(version, &OPTION);
        for len in 0..packet.len() {
            assert_eq!(tag(&packet[..len]), None, "{len}");
        }
    }
}

fn record() -> ConnectRecord {
    ConnectRecord {
        tag: TAG,
        cgroup_id: 7,
        netns_cookie: 9,
        at_ns: 1_000_000_000,
        addr_be: [u32::from_be_bytes([203, 0, 113, 5]).to_be(), 0, 0, 0],
        port_be: 443_u16.to_be(),
        family: 4,
        pid: 11,
        uid: 12,
        reserved: 0,
        comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
    }
}

#[test]
fn a_fresh_record_of_this_agent_and_namespace_is_an_origin() {
    let origin = check(&record(), 7, 9, Duration::from_secs(2)).unwrap();
    assert_eq!(origin.dst, OriginalDst("203.0.113.5:443".parse().unwrap()));
    assert_eq!((origin.pid, origin.uid, origin.comm.as_str()), (11, 12, "curl"));
}

#[test]
fn a_record_of_another_agent_namespace_or_time_is_refused() {
    let seconds = Duration::from_secs;
    let refusal = |cgroup, netns, now| check(&record(), cgroup, netns, now).unwrap_err().to_string();
    assert_eq!(refusal(8, 9, seconds(2)), "the connect record is for another agent");
    assert_eq!(refusal(7, 8, seconds(2)), "the connect record is for another network namespace");
    assert_eq!(refusal(7, 9, seconds(62)), "the connect record is for another time");
    assert_eq!(refusal(7, 9, seconds(0)), "the connect record is for another time", "from the future");
    let odd = ConnectRecord { family: 5, ..record() };
    assert!(check(&odd, 7, 9, seconds(2)).is_err());
}

#[test]
fn ipv6_words_are_in_network_order() {
    let text = "2001:db8::5".parse::<Ipv6Addr>().unwrap();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(text.octets().chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap());
    }
    assert_eq!(address(6, words), Some(IpAddr::V6(text)));
}

#[test]
fn a_comm_cannot_break_a_log_line() {
    assert_eq!(comm(b"a\nb\x1b[31m\0xxxxxxx"), "a\u{fffd}b\u{fffd}[31m");
    assert_eq!(comm(&[0xff; 16]).chars().count(), 16);
}
