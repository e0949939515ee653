//! Floods: frames that cost the sender next to nothing. The connection that floods is closed, or what it sends is
//! cheap for us as well; another agent is served meanwhile, and memory does not grow with the flood.

use super::*;

/// More than any honest connection sends, and seconds of work for a server that does something for each.
const MANY: u32 = 20_000;
/// Of this process, client and server in one.
const GROWTH: u64 = 64 << 20;

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What is sent again and again, numbered.
type Wave = Box<dyn Fn(u32) -> Vec<u8> + Send>;

struct Flood {
    what: &'static str,
    first: Vec<u8>,
    wave: Wave,
    /// It must not be let go on.
    closed: bool,
}

fn floods(host: &str) -> Vec<Flood> {
    let mut all = Vec::new();
    let mut add = |what, first: Vec<u8>, closed, wave: Wave| all.push(Flood { what, first, wave, closed });
    let whole = END_STREAM | END_HEADERS;
    let block = get(host, "/silence");
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let open = frame(HEADERS, END_HEADERS, 1, &post(host, &[]));

    let each = block.clone();
    add(
        "rapid reset",
        vec![],
        true,
        Box::new(move |n| [frame(HEADERS, whole, 2 * n + 1, &each), reset(2 * n + 1)].concat()),
    );
    // CVE-2025-8671: the server is made to reset what it has begun.
    let each = block.clone();
    add(
        "resets by our own faults",
        vec![],
        true,
        Box::new(move |n| {
            let stream = 2 * n + 1;
            [frame(HEADERS, whole, stream, &each), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
    );
    let each = block.clone();
    add(
        "streams beyond the limit",
        vec![],
        false,
        Box::new(move |n| frame(HEADERS, whole, 2 * n + 1, &each)),
    );
    add(
        "CONTINUATION without end",
        frame(HEADERS, END_STREAM, 1, &block),
        true,
        Box::new(|_| frame(CONTINUATION, 0, 1, &field(b"x", &[b'y'; 1000]))),
    );
    add(
        "empty CONTINUATION without end",
        frame(HEADERS, END_STREAM, 1, &block),
        true,
        Box::new(|_| frame(CONTINUATION, 0, 1, b"")),
    );
    add("settings", vec![], false, Box::new(|_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])));
    add(
        "windows that grow and shrink",
        open.clone(),
        false,
        Box::new(|n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, (n % 2) as u8, 0])),
    );
    add("pings", vec![], false, Box::new(|n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())));
    add("acknowledged pings", vec![], false, Box::new(|n| frame(PING, ACK, 0, &u64::from(n).to_be_bytes())));
    add("empty DATA", open.clone(), false, Box::new(|_| frame(DATA, 0, 1, b"")));
    add("DATA that is all padding", open.clone(), false, Box::new(|_| frame(DATA, PADDED, 1, &[2, 0, 0])));
    add("priorities", vec![], false, Box::new(|n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 9])));
    add("window updates", open, false, Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())));
    add("frames of an unknown type", vec![], false, Box::new(|_| frame(0xfe, 0, 0, &[0; 100])));
    // One large field put into the table, and then asked for again and again (a bomb of 4 KiB to a few bytes).
    let table =
        [get(host, "/silence"), [&[0x40][..], &number(1), b"x", &number(3000), &[b'y'; 3000]].concat()]
            .concat();
    let bomb = [get(host, "/silence"), vec![0xbe; 4000]].concat();
    add(
        "blocks that grow when they are read",
        frame(HEADERS, whole, 1, &table),
        false,
        Box::new(move |n| frame(HEADERS, whole, 2 * n + 3, &bomb)),
    );
    let each = block;
    add(
        "tables of a new size for each request",
        vec![],
        false,
        Box::new(move |n| {
            let size = if n % 2 == 0 { &[0x20][..] } else { &[0x3f, 0xe1, 0x1f] };
            [frame(HEADERS, whole, 2 * n + 1, &[size, &each].concat()), reset(2 * n + 1)].concat()
        }),
    );
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_ends_its_own_connection_and_nothing_else() {
    let world = World::new().await;
    let host = format!("plain.test:{}", world.http);
    let floods = floods(&host);
    assert_eq!(floods.len(), 16);
    for flood in floods {
        let before = resident();
        let agent = Raw::new(&world, "one").await;
        let what = flood.what;
        // Reads as well, or what we answer would stop the flood.
        let (mut reading, mut writing) = agent.io.into_split();
        let answers =
            tokio::spawn(async move { tokio::io::copy(&mut reading, &mut tokio::io::sink()).await });
        let sending = tokio::spawn(async move {
            if writing.write_all(&flood.first).await.is_err() {
                return;
            }
            for n in 0..MANY / 100 {
                let wave: Vec<u8> = (100 * n..100 * n + 100).flat_map(&flood.wave).collect();
                if writing.write_all(&wave).await.is_err() {
                    return;
                }
            }
            if !flood.closed {
                drop(writing.shutdown().await);
                return;
            }
            // Stays, if it is let.
            std::future::pending::<()>().await;
        });
        let mut other = world.h2("two", "api.test").await;
        let served =
            tokio::time::timeout(SOON, other.send_request(world.request2("GET", "/open/x", ""))).await;
        assert_eq!(served.expect("another agent is served").unwrap().status(), 200, "{what}");
        let closed = tokio::time::timeout(SOON, answers).await;
        assert!(closed.is_ok(), "{what}: the connection is not closed");
        sending.abort();
        let growth = resident().saturating_sub(before);
        assert!(growth < GROWTH, "{what}: grew by {growth} bytes");
    }
}
