//! [`Hardware`]: what has memory for tensors. All of it is asked for here first, so that a device which is full is an error
//! before anything is half done, and what a request took is given back however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Device;
use super::measure::{DeviceMemory, ProcessMemory};
use crate::error::{Error, ErrorKind, Result};
use crate::process::PerProcess;

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Of a model, as long as it is loaded.
    Weights,
    /// Keys and values of a request that is being decoded.
    Cache,
    /// What a layer makes of its input.
    Workspace,
}

/// The processor, a GPU, or a test's. Any thread may use it.
pub(crate) trait Hardware: Send + Sync {
    fn device(&self) -> Device;

    /// What is taken, and what there is.
    fn memory(&self) -> DeviceMemory;

    /// Takes so many bytes.
    ///
    /// # Errors
    /// `OutOfMemory` where there are not so many; `DeviceUnavailable` where the device failed for good.
    fn take(&self, what: Use, bytes: u64) -> Result<()>;

    /// Gives back what was taken.
    fn give(&self, what: Use, bytes: u64);
}

/// A device, shared by whatever runs on it.
pub(crate) type Place = Arc<dyn Hardware>;

/// Memory that was taken. It is given back when this is dropped.
pub(crate) struct Held {
    place: Place,
    what: Use,
    bytes: u64,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn new(place: &Place, what: Use) -> Self {
        Self { place: place.clone(), what, bytes: 0 }
    }

    /// Takes more.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        self.place.take(self.what, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes some bytes for others: what was read has another form now.
    pub(crate) fn exchange(&mut self, given: u64, taken: u64) -> Result<()> {
        if taken > given {
            return self.grow(taken - given);
        }
        let less = (given - taken).min(self.bytes);
        self.place.give(self.what, less);
        self.bytes -= less;
        Ok(())
    }

    /// As much more as is asked for, on the same device and for the same purpose.
    pub(crate) fn beside(&self, bytes: u64) -> Result<Self> {
        let mut held = Self::new(&self.place, self.what);
        held.grow(bytes)?;
        Ok(held)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.place.give(self.what, self.bytes);
        }
    }
}

/// Bytes by what they were taken for.
#[derive(Default)]
pub(super) struct Taken {
    weights: AtomicU64,
    requests: AtomicU64,
}

impl Taken {
    fn of(&self, what: Use) -> &AtomicU64 {
        match what {
            Use::Weights => &self.weights,
            Use::Cache | Use::Workspace => &self.requests,
        }
    }

    pub(super) fn add(&self, what: Use, bytes: u64) {
        self.of(what).fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn sub(&self, what: Use, bytes: u64) {
        self.of(what).fetch_sub(bytes, Ordering::AcqRel);
    }

    /// For weights and for requests.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.weights.load(Ordering::Acquire), self.requests.load(Ordering::Acquire))
    }
}

/// The processor. Its memory is the system's to give; asking first turns what would be the end of the process, in a container
/// above all, into an error.
#[derive(Default)]
struct Cpu {
    taken: Taken,
    /// Taken since the system was last asked how much there is.
    unseen: AtomicU64,
}

/// The system is asked again after so many bytes: it takes a fifth of a millisecond.
const LOOK_EVERY: u64 = 16 << 20;

impl Hardware for Cpu {
    fn device(&self) -> Device {
        Device::Cpu
    }

    fn memory(&self) -> DeviceMemory {
        let (weights, requests) = self.taken.bytes();
        let machine = ProcessMemory::now();
        let free = machine.available.unwrap_or(0);
        DeviceMemory { device: Device::Cpu, weights, requests, free, total: machine.limit.unwrap_or(0), failed: false }
    }

    fn take(&self, what: Use, bytes: u64) -> Result<()> {
        if self.unseen.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes) >= LOOK_EVERY {
            self.unseen.store(0, Ordering::Release);
            if let Some(available) = ProcessMemory::now().available.filter(|a| *a < bytes) {
                return Err(full(Device::Cpu, what, bytes, available));
            }
        }
        self.taken.add(what, bytes);
        Ok(())
    }

    fn give(&self, what: Use, bytes: u64) {
        self.taken.sub(what, bytes);
    }
}

/// That a device has not so much memory left.
pub(super) fn full(device: Device, what: Use, bytes: u64, free: u64) -> Error {
    let what = match what {
        Use::Weights => "a model's weights",
        Use::Cache => "a request's keys and values",
        Use::Workspace => "a layer",
    };
    let message = format!(
        "{bytes} bytes for {what} exceed the {free} that are free on {device}: unload models, make fewer calls at once, or give it more memory"
    );
    Error::new(ErrorKind::OutOfMemory, message)
}

/// The processor, the same for all factories. A child goes on with its parent's figures, for it has the parent's models.
pub(crate) fn cpu() -> &'static Place {
    static CPU: PerProcess<Place> = PerProcess::new();
    CPU.get_with(|parents| parents.cloned().unwrap_or_else(|| Arc::new(Cpu::default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_given_back() {
        let place: Place = Arc::new(Cpu::default());
        let mut held = Held::new(&place, Use::Weights);
        held.grow(1_000).unwrap();
        held.grow(20 << 20).unwrap();
        let mut other = Held::new(&place, Use::Cache);
        other.grow(5).unwrap();
        assert_eq!((place.memory().weights, place.memory().requests), (1_000 + (20 << 20), 5));
        held.exchange(600, 100).unwrap();
        assert_eq!((held.bytes(), place.memory().weights), (500 + (20 << 20), 500 + (20 << 20)));
        held.exchange(100, 600).unwrap();
        assert_eq!(place.memory().weights, 1_000 + (20 << 20));
        drop(held);
        assert_eq!((place.memory().weights, place.memory().requests), (0, 5));
        drop(other);
        assert_eq!(place.memory().requests, 0);
    }

    #[test]
    fn more_than_the_machine_has_is_refused_before_it_is_taken() {
        let place: Place = Arc::new(Cpu::default());
        let mut held = Held::new(&place, Use::Weights);
        let e = held.grow(1 << 60).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert!(e.to_string().contains("free on cpu"), "{e}");
        assert_eq!((held.bytes(), place.memory().weights), (0, 0));
    }
}
