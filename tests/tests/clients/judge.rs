//! Whether a client did its jobs: by what the servers saw and digested, and by what the client got.

use enforcer_tests::world::outside::Seen;
use enforcer_tests::world::{Output, World, plan};
use serde_json::Value;

use super::table::{Client, Does, Job};
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
    let at_shop = shop.seen();
    let bearer = format!("Bearer {}", world.canaries.bearer);
    if let Some(without) = at_shop.iter().find(|seen| seen.authorization != bearer) {
        wrong.push(format!("{} {} came without the credential", without.method, without.uri));
    }
    let at_git = world.seen().into_iter().filter(|seen| seen.server == plan::GIT);
    let case = Case { shop, client, output, seen: at_shop.into_iter().chain(at_git).collect() };
    wrong.extend(client.jobs().iter().filter_map(|job| case.done(*job).err()));
    wrong
}

struct Case<'a> {
    shop: &'a Shop,
    client: &'a Client,
    output: &'a Output,
    /// By the shop's nginx, which let nobody in without the credential, and by git's.
    seen: Vec<Seen>,
}

impl Case<'_> {
    fn done(&self, job: Job) -> Result<(), String> {
        match (self.client.does, job) {
            (_, Job::Typical) => {
                self.client.sees.iter().try_for_each(|request| self.saw(job, request))?;
                let told = self.told(job)?;
                if told.contains(self.client.expect) { Ok(()) } else { Err(format!("own: {told}")) }
            }
            (Does::Plain, job) => self.plain(job),
            (Does::Itself(jobs), job) => {
                let requests = jobs.iter().filter(|(done, _)| *done == job);
                for (_, request) in requests {
                    self.saw(job, request)?;
                    if job == Job::Upload {
                        self.arrived(request)?;
                    }
                }
                if job == Job::Download { self.got() } else { Ok(()) }
            }
        }
    }

    /// One of the shop's own paths: the answer says what the server was asked, and the client tells it.
    fn plain(&self, job: Job) -> Result<(), String> {
        let name = self.client.name;
        let (method, path) = match job {
            Job::Get => ("GET", "get"),
            Job::Post => ("POST", "post"),
            Job::Redirect => ("GET", "landed"),
            Job::Upload => ("PUT", "upload"),
            Job::Download | Job::Typical => {
                self.saw(job, "GET download 200")?;
                return self.got();
            }
        };
        self.saw(job, &format!("{method} {path} 200"))?;
        let told = self.told(job)?;
        let answer: Value =
            serde_json::from_str(told).map_err(|error| format!("{}: {error}: {told}", job.word()))?;
        let asked = answer["path"] == format!("/m/{name}/{path}")
            && answer["credential"] == "right"
            && answer["method"] == method;
        let right = match job {
            Job::Redirect => return self.saw(job, "GET redirect 302"),
            Job::Post => {
                answer["length"] == format!("posted by {name}").len()
                    && answer["sha256"] == posted(self.client)
            }
            Job::Upload => answer["length"] == bulk() && answer["sha256"] == self.shop.digest,
            Job::Get | Job::Download | Job::Typical => true,
        };
        if asked && right { Ok(()) } else { Err(format!("{}: {told}", job.word())) }
    }

    /// What the client told of a job.
    fn told(&self, job: Job) -> Result<&str, String> {
        let word = job.word();
        let told = self.output.stdout.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        told.ok_or_else(|| format!("it told nothing of `{word}`"))
    }

    /// The digest of what it downloaded is right.
    fn got(&self) -> Result<(), String> {
        let told = self.told(Job::Download)?;
        if told.trim() == self.shop.digest { Ok(()) } else { Err(format!("download: {told}")) }
    }

    /// A server digested what came to the path of this request, and it was all of it.
    fn arrived(&self, request: &str) -> Result<(), String> {
        let request = Request::parse(request, self);
        let path = request.uri.split(['?', '*']).next().unwrap_or_default();
        let arrivals = self.shop.arrivals();
        let right = arrivals.iter().any(|arrival| {
            arrival["path"] == path && arrival["sha256"] == self.shop.digest && arrival["length"] == bulk()
        });
        if right { Ok(()) } else { Err(format!("upload: at {path} there is {arrivals:?}")) }
    }

    fn saw(&self, job: Job, request: &str) -> Result<(), String> {
        let wanted = Request::parse(request, self);
        let seen = self.seen.iter().any(|seen| wanted.is(seen));
        let word = job.word();
        if seen { Ok(()) } else { Err(format!("{word}: no server was asked `{request}`")) }
    }
}

/// `METHOD PATH STATUS`, as tables have it. A path without `/` is one of the client's own, `*` at the end stands for
/// anything, `DIGEST` for that of the large file.
struct Request<'a> {
    method: &'a str,
    uri: String,
    status: &'a str,
}

impl<'a> Request<'a> {
    fn parse(text: &'a str, case: &Case<'_>) -> Self {
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("`{text}` is not METHOD PATH STATUS"));
        let (method, path, status) = (word(), word(), word());
        let path = path.replace("DIGEST", &case.shop.digest);
        let uri = if path.starts_with('/') { path } else { format!("/m/{}/{path}", case.client.name) };
        Request { method, uri, status }
    }

    fn is(&self, seen: &Seen) -> bool {
        // gh has a place of its own before the path.
        let asked = seen.uri.strip_prefix("/api/v3").unwrap_or(&seen.uri);
        let path = match self.uri.strip_suffix('*') {
            Some(beginning) => asked.starts_with(beginning),
            None => asked == self.uri,
        };
        path && seen.method == self.method && seen.status == self.status
    }
}

/// The digest of the body that clients post.
fn posted(client: &Client) -> String {
    let line = format!("printf 'posted by {}' | sha256sum", client.name);
    let told = enforcer_tests::world::command::must(&["sh", "-c", &line]).unwrap_or_default();
    told.split(' ').next().unwrap_or_default().to_owned()
}
