//! A GPU for tests: the tensors are in main memory, and it runs out of its own, or fails, when it is told to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::hardware::{Hardware, Taken, Use, full};
use super::{Device, DeviceMemory};
use crate::error::{Error, ErrorKind, Result};

pub(crate) struct Simulated {
    total: u64,
    taken: Taken,
    /// How often memory was asked for.
    asked: AtomicU64,
    /// Which times there is none.
    fails: Box<dyn Fn(u64, Use) -> bool + Send + Sync>,
    dead: AtomicBool,
}

impl Simulated {
    /// With so many bytes.
    pub(crate) fn new(total: u64) -> Self {
        Self::failing(total, |_, _| false)
    }

    /// That has no memory when `fails` says so, which is told how often it was asked before, and for what it is asked.
    pub(crate) fn failing(total: u64, fails: impl Fn(u64, Use) -> bool + Send + Sync + 'static) -> Self {
        Self { total, taken: Taken::default(), asked: AtomicU64::new(0), fails: Box::new(fails), dead: AtomicBool::new(false) }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// From now on it answers nobody.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Release);
    }
}

impl Hardware for Simulated {
    fn device(&self) -> Device {
        Device::Cuda(0)
    }

    fn memory(&self) -> DeviceMemory {
        let (weights, requests) = self.taken.bytes();
        let free = self.total.saturating_sub(weights + requests);
        let failed = self.dead.load(Ordering::Acquire);
        DeviceMemory { device: self.device(), weights, requests, free, total: self.total, failed }
    }

    fn take(&self, what: Use, bytes: u64) -> Result<()> {
        let before = self.asked.fetch_add(1, Ordering::AcqRel);
        if self.dead.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::DeviceUnavailable, "cuda:0 answers no longer"));
        }
        let free = self.memory().free;
        if bytes > free || (self.fails)(before, what) {
            return Err(full(self.device(), what, bytes, free));
        }
        self.taken.add(what, bytes);
        Ok(())
    }

    fn give(&self, what: Use, bytes: u64) {
        self.taken.sub(what, bytes);
    }
}
