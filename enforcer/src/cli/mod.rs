//! Skeleton.

pub mod logs;
pub mod receipts;
mod zone;
