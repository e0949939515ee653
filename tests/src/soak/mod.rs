//! A long run: agents with mixed load, an upstream that misbehaves, a link that is slow and loses packets, a daemon that is restarted,
//! killed, upgraded, reloaded. Then three histories are laid side by side.
//!
//! | file | its part |
//! |---|---|
//! | [`content`] | what is sent and answered, made of the request's id |
//! | [`history`] | what agents, upstream and injector wrote down |
//! | [`check`] | whether these can all be true, and whether something was wrong |
//! | [`faults`] | what is done to link and daemon |
//! | [`measure`] | what the daemon's processes hold, and the line through it |
//! | [`play`] | the run itself |
//!
//! The load is `traffic`, a programme of this package.

pub mod check;
pub mod content;
pub mod faults;
pub mod history;
pub mod measure;
pub mod play;
