//! What the container engines of this host tell of a container.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::message::Container;

pub(super) const ENGINES: [&str; 3] = ["docker", "podman", "nerdctl"];
/// Letters of a whole id.
const ID: usize = 64;

/// A container that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Its first process, as the host sees it.
    pub(super) pid: u32,
    pub(super) container: Container,
}

/// Of the first engine that knows it. One that is not installed or knows nothing of it is no answer.
pub(super) fn ask(name: &str) -> Option<Told> {
    ENGINES.iter().find_map(|engine| {
        let output = Command::new(engine).args(["inspect", "--", name]).output().ok()?;
        output.status.success().then(|| read(&output.stdout)).flatten()
    })
}

/// The id that runtimes put into the name of the container's cgroup: `docker-ID.scope`, `libpod-ID.scope`, `ID`.
pub(super) fn id_in(cgroup: &Path) -> Option<String> {
    let names = cgroup.iter().rev().filter_map(|part| part.to_str());
    names.flat_map(|name| name.split(['-', '.'])).find(|word| is_id(word)).map(str::to_owned)
}

fn is_id(word: &str) -> bool {
    word.len() == ID && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// As far as we look, in the words of Docker; podman has `ImageName`, nerdctl the image's name in `Image`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    image_name: String,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    pid: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    /// Also `null`.
    labels: Option<std::collections::BTreeMap<String, String>>,
}

fn read(told: &[u8]) -> Option<Told> {
    let [inspected]: [Inspected; 1] = serde_json::from_slice::<Vec<Inspected>>(told).ok()?.try_into().ok()?;
    let Inspected { state, name, image, image_name, config } = inspected;
    let image = [config.image, image_name, image].into_iter().find(|image| !image.is_empty());
    let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
    let container =
        Container { image: image.unwrap_or_default(), name, labels: config.labels.unwrap_or_default() };
    // None runs where it is 0.
    (state.pid != 0).then_some(Told { pid: state.pid, container })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_is_understood() {
        let docker =
            br#"[{"Id":"x","State":{"Status":"running","Pid":4711},"Image":"sha256:aa","Name":"/helper",
            "Config":{"Image":"agents/helper:1","Labels":{"com.example.role":"helper"}}}]"#;
        let told = read(docker).unwrap();
        assert_eq!((told.pid, told.container.name.as_str()), (4711, "helper"));
        assert_eq!(told.container.image, "agents/helper:1");
        assert_eq!(told.container.labels["com.example.role"], "helper");
        let podman = br#"[{"State":{"Pid":1},"Image":"aa","ImageName":"quay.example/a:1","Name":"h","Config":{"Labels":null}}]"#;
        assert_eq!(read(podman).unwrap().container.image, "quay.example/a:1");
        let nerdctl = br#"[{"State":{"Pid":1},"Image":"docker.io/library/a:1","Name":"h"}]"#;
        assert_eq!(read(nerdctl).unwrap().container.image, "docker.io/library/a:1");
    }

    #[test]
    fn what_is_not_one_running_container_is_none() {
        for bad in [
            &b""[..],
            b"[]",
            b"{}",
            br#"[{"State":{"Pid":0},"Name":"/x"}]"#,
            br#"[{"Name":"/x"}]"#,
            br#"[{"State":{"Pid":1}},{"State":{"Pid":2}}]"#,
        ] {
            assert_eq!(read(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn an_id_is_found_in_the_name_of_a_cgroup() {
        let id = "4f1c0a2b3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";
        for path in [
            "system.slice/docker-ID.scope",
            "kube/cri-containerd-ID.scope",
            "docker/ID",
            "libpod-ID.scope/container",
        ] {
            assert_eq!(id_in(Path::new(&path.replace("ID", id))).as_deref(), Some(id), "{path}");
        }
        assert_eq!(id_in(Path::new("system.slice/worker.service")), None);
        assert_eq!(id_in(Path::new(&format!("{id}0"))), None);
    }
}
