//! The devices of a factory, and what becomes of a load for which one has no memory.

#[cfg(test)]
mod tests;

use super::{Entry, Factory, Id, Slot};
use crate::device::{self, Device, DeviceMemory, Place};
use crate::error::{Error, ErrorKind, Result};

/// The devices of a factory.
pub(super) struct Places {
    pub(super) gpus: Vec<Place>,
    /// What [`Device::Auto`] stands for, if it was decided.
    pub(super) preferred: Option<Device>,
    /// The part of a GPU's memory above which nothing more is loaded on it.
    pub(super) threshold: f64,
}

/// The threshold, where nothing else is said.
pub(super) const THRESHOLD: f64 = 0.9;

impl Places {
    pub(super) fn resolve(&self, device: Device) -> Device {
        match device {
            Device::Auto => match self.preferred {
                None | Some(Device::Auto) => self.gpus.first().map_or(Device::Cpu, |gpu| gpu.device()),
                Some(device) => device,
            },
            device => device,
        }
    }

    pub(super) fn of(&self, device: Device) -> Result<&Place> {
        let gpu = self.gpus.iter().find(|gpu| gpu.device() == device);
        let place = if device == Device::Cpu { Some(device::cpu()) } else { gpu };
        place.ok_or_else(|| {
            let mut there = vec![Device::Cpu.to_string()];
            there.extend(self.gpus.iter().map(|gpu| gpu.device().to_string()));
            let what = format!("there is no device {device}: there are {}", there.join(", "));
            Error::new(ErrorKind::DeviceUnavailable, what)
        })
    }

    /// Whether there is such a device, and it works.
    pub(super) fn check(&self, device: Device) -> Result<()> {
        if device != Device::Cpu && self.of(device)?.memory().failed {
            let what = format!("{device} failed and is no longer used: what needs it works again in a new process");
            return Err(Error::new(ErrorKind::DeviceUnavailable, what));
        }
        Ok(())
    }

    /// The device, if something more may be loaded on it.
    fn open(&self, device: Device) -> Result<&Place> {
        let place = self.of(device)?;
        // The processor's memory is the system's: it is asked as it is taken.
        if device == Device::Cpu {
            return Ok(place);
        }
        let memory = place.memory();
        if memory.used() > self.threshold {
            let (used, limit) = (memory.used() * 100.0, self.threshold * 100.0);
            let what = format!("{used:.0} % of the memory of {device} is taken: nothing is loaded on it above {limit:.0} %");
            return Err(Error::new(ErrorKind::OutOfMemory, what));
        }
        Ok(place)
    }

    pub(super) fn memory(&self) -> Vec<DeviceMemory> {
        [device::cpu()].into_iter().chain(&self.gpus).map(|place| place.memory()).collect()
    }
}

impl Factory {
    /// Loads something on a device. Where its memory does not suffice, what nobody uses goes, and the load is tried once more.
    pub(super) fn load_on<T>(&self, id: &Id, load: impl Fn(&Place) -> Result<T>) -> Result<T> {
        let place = self.shared.places.open(id.device)?;
        match load(place) {
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                let gone = self.make_room(id.device);
                tracing::warn!("loading {id} again after {gone} models went: {}", e.report());
                load(place)
            }
            loaded => loaded,
        }
    }

    /// Evicts whatever nobody uses on a device; returns how many went.
    pub(super) fn make_room(&self, device: Device) -> usize {
        let idle = |slot: &Slot<Entry>| slot.is_free() && slot.item.id.device == device;
        let gone = self.take_off(&mut self.live().shelf.residents(), idle);
        Self::free(gone)
    }
}
