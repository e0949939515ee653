//! The catalogues and presets that are part of the program, one line each.

macro_rules! shipped {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../../policies/", $folder, "/", $name, ".yaml")))),*]
    };
}

/// Name and text; a file of the same name in the policy folder's `services/` takes its place.
pub(crate) const SERVICES: &[(&str, &str)] = shipped!("services": "anthropic", "aws", "github", "gitlab", "google", "huggingface", "jira", "linear", "notion", "oci", "openai", "packages", "sentry", "slack", "stripe");

/// Name and text; a file of the same name in the policy folder's `presets/` takes its place.
pub(crate) const PRESETS: &[(&str, &str)] = shipped!("presets": "github-clone");
