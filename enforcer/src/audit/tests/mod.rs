//! Receipts under load, under attack, on full disks and after crashes.

mod crash;
mod disk;
mod log;
mod queries;
mod stage;
mod tamper;
