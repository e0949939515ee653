//! Whether a client did its jobs: by what the shop saw, and by what the client got.

use enforcer_tests::world::outside::Seen;
use enforcer_tests::world::{Output, World};
use serde_json::Value;

use super::table::{Client, Job};
use super::upstream::{Shop, bulk};

/// What was not as it should be; nothing: all was.
pub(crate) fn judge(world: &World, shop: &Shop, client: &Client, output: &Output) -> Vec<String> {
    let mut wrong = Vec::new();
    if !output.ok() {
        wrong.push("it failed".to_owned());
    }
    if world.canaries.all().iter().any(|canary| output.all().contains(canary)) {
        wrong.push("it saw a secret".to_owned());
    }
    let seen = shop.seen();
    let bearer = format!("Bearer {}", world.canaries.bearer);
    if let Some(without) = seen.iter().find(|seen| seen.authorization != bearer) {
        wrong.push(format!("{} {} came without the credential", without.method, without.uri));
    }
    wrong.extend(client.jobs.iter().filter_map(|job| done(*job, shop, client, output, &seen).err()));
    wrong
}

fn done(job: Job, shop: &Shop, client: &Client, output: &Output, seen: &[Seen]) -> Result<(), String> {
    let word = job.word();
    let told = output.stdout.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    let told = told.ok_or_else(|| format!("it told nothing of `{word}`"))?;
    let at = |last: &str| format!("/m/{}/{last}", client.name);
    // What the server told of a request, by the client's mouth.
    let answer = |path: String, method: &[&str]| -> Result<Value, String> {
        let answer: Value = serde_json::from_str(told).map_err(|error| format!("{word}: {error}: {told}"))?;
        let fits = answer["path"] == path
            && answer["credential"] == "right"
            && method.iter().any(|m| answer["method"] == *m);
        let logged = seen.iter().any(|seen| seen.uri.ends_with(&path) && seen.status == "200");
        if fits && logged { Ok(answer) } else { Err(format!("{word}: {told}")) }
    };
    let right = match job {
        Job::Get => answer(at("get"), &["GET"]).map(|_| true)?,
        Job::Redirect => {
            let moved = at("redirect");
            answer(at("landed"), &["GET"])?;
            seen.iter().any(|seen| seen.uri.ends_with(&moved) && seen.status == "302")
        }
        Job::Post => {
            let answer = answer(at("post"), &["POST"])?;
            answer["length"] == format!("posted by {}", client.name).len()
                && answer["sha256"] == posted(client)
        }
        Job::Download => told.trim() == shop.digest,
        Job::Upload => {
            let answer = answer(at("upload"), &["PUT", "POST"])?;
            answer["length"] == bulk() && answer["sha256"] == shop.digest
        }
        Job::Typical => told.contains(client.expect),
    };
    if right { Ok(()) } else { Err(format!("{word}: {told}")) }
}

/// The digest of the body that clients post.
fn posted(client: &Client) -> String {
    let line = format!("printf 'posted by {}' | sha256sum", client.name);
    let told = enforcer_tests::world::command::must(&["sh", "-c", &line]).unwrap_or_default();
    told.split(' ').next().unwrap_or_default().to_owned()
}
