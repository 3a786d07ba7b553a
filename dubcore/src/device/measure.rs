//! How much memory there is, as the system tells.

use serde::Serialize;
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::Device;

/// The memory of this process and what it may have, measured; `None` where the system does not tell.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessMemory {
    /// Bytes that it occupies (resident set size), whoever asked for them.
    pub resident: Option<u64>,
    /// The most that it may have: the machine's memory, or its control group's limit where that is less.
    pub limit: Option<u64>,
    /// What it can still have, swap included: less where other processes take it.
    pub available: Option<u64>,
}

/// The memory of a device.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceMemory {
    /// Which.
    pub device: Device,
    /// Bytes of the weights on it, of all factories of this process.
    pub weights: u64,
    /// Bytes that calls hold on it now, for keys, values and activations.
    pub requests: u64,
    /// Bytes that are free; 0 where it is not known.
    pub free: u64,
    /// Bytes that there are; 0 where it is not known.
    pub total: u64,
    /// Whether it failed for good, and is no longer used.
    pub failed: bool,
}

impl DeviceMemory {
    /// The part of it that is taken, 0 to 1, by whoever took it; 0 where it is not known.
    pub fn used(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.total.saturating_sub(self.free) as f64 / self.total as f64 }
    }
}

impl ProcessMemory {
    /// What it is now. The system is asked, which takes a fraction of a millisecond.
    pub fn now() -> Self {
        process()
    }
}

fn process() -> ProcessMemory {
    let Ok(mut system) = System::new() else { return ProcessMemory::default() };
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    let pid = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        false,
        ProcessRefreshKind::nothing().with_memory().without_tasks(),
    );
    let process = system.process(pid);
    let known = |bytes: u64| (bytes > 0).then_some(bytes);
    let limit = known(system.total_memory());
    let available = limit.map(|_| system.available_memory().saturating_add(system.free_swap()));
    let group = process.and_then(|p| p.cgroup_limits());
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    ProcessMemory {
        resident: process.and_then(|p| known(p.memory())),
        limit: least(limit, group.as_ref().map(|g| g.total_memory)),
        // Of what the group has, files that are cached make room.
        available: least(available, group.map(|g| g.total_memory.saturating_sub(g.rss).saturating_add(g.free_swap))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_takes() {
        let before = process();
        let resident = before.resident.unwrap();
        assert!(resident > 1 << 20 && resident < before.limit.unwrap(), "{before:?}");
        assert!(before.available.unwrap() > 0);
        let mut block = vec![0u8; 64 << 20];
        block.iter_mut().step_by(512).for_each(|b| *b = 1);
        let after = process().resident.unwrap();
        assert!(after >= resident + (32 << 20), "{resident} {after} {}", block[512]);
    }

    #[test]
    fn parts_that_are_taken() {
        let memory = |free, total| DeviceMemory { device: Device::Cpu, weights: 0, requests: 0, free, total, failed: false };
        assert_eq!(memory(25, 100).used(), 0.75);
        assert_eq!(memory(0, 0).used(), 0.0);
    }
}
