//! Linear layers: `y = x W^T + b` for any number of rows.

use super::gemm::{End, Prepared, Product};
use super::pack::Packed;
use super::tile::{Rows, Tile};
use super::{Cpu, gemm};
use crate::team::Team;

/// The most rows that go through weights at a time: enough to pay for reading those, few enough for a second-level cache. Up to
/// so many, threads share the outputs; beyond, the rows.
const MANY: usize = 384;

/// Bytes of weights that are worth a thread.
const SHARE: usize = 32 << 10;

impl Packed {
    /// `out` `[rows, outputs]` from `x` `[rows, inputs]`.
    pub(crate) fn forward(&self, cpu: &Cpu, x: Rows<'_>, out: Tile<'_>, end: End) {
        assert_eq!(
            (x.columns(), self.shape.taps, out.rows(), out.columns()),
            (self.shape.channels, 1, x.len(), self.shape.outputs)
        );
        if x.len() <= MANY {
            let x = Prepared::new(self, &cpu.team, &cpu.arena, x);
            self.few(cpu, x.operand(), out, end);
        } else {
            let (rows, arena) = (self.rows_of_part(cpu, x.len()), &cpu.arena);
            cpu.team.each_rows(out, rows, |i, out| {
                let x = Prepared::new(self, &Team::alone(), arena, x.slice(i * rows, rows));
                self.isa.run(Product { w: self, panel: 0, a: x.operand(), out, end });
            });
        }
    }

    /// Few rows: each thread has outputs of its own.
    pub(super) fn few(&self, cpu: &Cpu, a: gemm::Operand<'_>, out: Tile<'_>, end: End) {
        let panels = self.columns_of_part(cpu) / self.width();
        cpu.team.each_columns(out, panels * self.width(), |i, out| {
            self.isa.run(Product { w: self, panel: i * panels, a, out, end });
        });
    }

    /// Outputs that a thread does at a time: whole panels, in fours, as single rows are.
    pub(super) fn columns_of_part(&self, cpu: &Cpu) -> usize {
        let panels = self.shape.outputs.div_ceil(self.width());
        let least = SHARE.div_ceil(4 * self.panel_words().max(1)).max(1);
        // Two parts for each thread, so that one that was interrupted is helped out.
        let fair = panels.div_ceil(2 * cpu.team.threads());
        fair.max(least).next_multiple_of(4) * self.width()
    }

    /// Rows that a thread does at a time: whole strips of twelve and of a matrix unit's 32.
    pub(super) fn rows_of_part(&self, cpu: &Cpu, rows: usize) -> usize {
        rows.div_ceil(2 * cpu.team.threads()).min(MANY).next_multiple_of(96)
    }
}

#[cfg(test)]
pub(super) mod tests;
