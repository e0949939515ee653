//! Every command of the control socket: its method, its path, and who may give it.
//!
//! The routes are built from this table, so a command without an entry cannot be reached.

use enforcer_capture::peer::Peer;

/// Everything that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Status,
    Agents,
    AgentDisable,
    AgentEnable,
    Policies,
    PolicyReload,
    Explain,
    Secrets,
    SecretShow,
    SecretSet,
    SecretRemove,
    Receipts,
    Receipt,
    ReceiptsFollow,
    ReceiptsVerify,
    ReceiptsExport,
    CaExport,
    Distrust,
    Proved,
}

/// Who may give a command, beyond being let through by the mode of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever the socket lets in: root, and members of the group in `enforcer.yaml`.
    Operator,
    /// Root, or the daemon's own user. The group is for running agents and looking; what an agent
    /// may spend is the administrator's word.
    Administrator,
}

impl Command {
    pub const ALL: &[Command] = &[
        Command::Status,
        Command::Agents,
        Command::AgentDisable,
        Command::AgentEnable,
        Command::Policies,
        Command::PolicyReload,
        Command::Explain,
        Command::Secrets,
        Command::SecretShow,
        Command::SecretSet,
        Command::SecretRemove,
        Command::Receipts,
        Command::Receipt,
        Command::ReceiptsFollow,
        Command::ReceiptsVerify,
        Command::ReceiptsExport,
        Command::CaExport,
        Command::Distrust,
        Command::Proved,
    ];

    pub fn who(self) -> Who {
        match self {
            Command::Status
            | Command::Agents
            // Whoever may start an agent may stop it, and let it go on.
            | Command::AgentDisable
            | Command::AgentEnable
            | Command::Policies
            // Reading the files again changes nothing that their owner has not changed.
            | Command::PolicyReload
            | Command::Explain
            | Command::Secrets
            | Command::SecretShow
            | Command::Receipts
            | Command::Receipt
            | Command::ReceiptsFollow
            | Command::ReceiptsVerify
            | Command::ReceiptsExport
            | Command::CaExport
            | Command::Distrust => Who::Operator,
            // Whoever proves is root; nobody else may say that nothing got out.
            Command::SecretSet | Command::SecretRemove | Command::Proved => Who::Administrator,
        }
    }

    pub fn method(self) -> http::Method {
        match self {
            Command::AgentDisable
            | Command::AgentEnable
            | Command::PolicyReload
            | Command::Explain
            | Command::Proved
            | Command::ReceiptsVerify => http::Method::POST,
            Command::SecretSet => http::Method::PUT,
            Command::SecretRemove => http::Method::DELETE,
            Command::Status
            | Command::Agents
            | Command::Policies
            | Command::Secrets
            | Command::SecretShow
            | Command::Receipts
            | Command::Receipt
            | Command::ReceiptsFollow
            | Command::ReceiptsExport
            | Command::CaExport
            | Command::Distrust => http::Method::GET,
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Command::Status => "/v1/status",
            Command::Agents => "/v1/agents",
            Command::AgentDisable => "/v1/agents/{name}/disable",
            Command::AgentEnable => "/v1/agents/{name}/enable",
            Command::Policies => "/v1/policies",
            Command::PolicyReload => "/v1/policies/reload",
            Command::Explain => "/v1/explain",
            Command::Secrets => "/v1/secrets",
            Command::SecretShow | Command::SecretSet | Command::SecretRemove => "/v1/secrets/{name}",
            Command::Receipts => "/v1/receipts",
            Command::Receipt => "/v1/receipts/{id}",
            Command::ReceiptsFollow => "/v1/receipts/follow",
            Command::ReceiptsVerify => "/v1/receipts/verify",
            Command::ReceiptsExport => "/v1/receipts/export",
            Command::CaExport => "/v1/ca",
            Command::Distrust => "/v1/distrust",
            Command::Proved => "/v1/proofs",
        }
    }
}

impl Who {
    pub fn includes(self, peer: &Peer) -> bool {
        match self {
            Who::Operator => true,
            Who::Administrator => peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_commands_share_method_and_path() {
        let mut seen = std::collections::BTreeSet::new();
        for command in Command::ALL {
            assert!(seen.insert((command.method().to_string(), command.path())), "{command:?}");
        }
    }

    #[test]
    fn only_administrators_change_secrets_and_bring_proofs() {
        let peer = |uid| Peer { pid: 1, uid, gid: uid, cgroup_id: None, managed: false };
        for command in Command::ALL {
            let secret = matches!(command, Command::SecretSet | Command::SecretRemove | Command::Proved);
            assert_eq!(command.who().includes(&peer(4242)), !secret, "{command:?}");
            assert!(command.who().includes(&peer(0)));
        }
    }
}
