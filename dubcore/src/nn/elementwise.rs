//! Sums and functions of the reference, element by element, on the threads of the request's own pool. The processor's engine
//! must not use them: a thread that waits for another's share may take up a whole other request meanwhile.
//!
//! candle (0.11) would do them on a pool of its own, one call at a time, spinning: threads beyond those that the host allows,
//! requests that wait for each other, and a child of `fork()`, which has that pool without its threads, waits for ever.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::error::Result;

/// What one thread takes at a time; less is not worth a second one.
const SHARE: usize = 16 << 10;

/// `x + y`, where `y` is repeated along the dimensions in which it has one element.
pub(in crate::nn) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y = y.broadcast_as(x.shape())?;
    Ok(x.contiguous()?.apply_op2_no_bwd(&y, &Add)?)
}

/// `f` of each element.
pub(in crate::nn) fn map(x: &Tensor, f: impl Fn(f32) -> f32 + Sync + Send) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op1_no_bwd(&Map(f))?)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, y: &CpuStorage, ly: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, y) = (dense(x, lx)?, y.as_slice::<f32>()?);
        let dims = lx.dims();
        let Some((&width, outer)) = dims.split_last().filter(|_| !x.is_empty()) else {
            let sum = x.iter().zip(&y[ly.start_offset()..]).map(|(x, y)| x + y).collect();
            return Ok((CpuStorage::F32(sum), lx.shape().clone()));
        };
        let (&step, steps) = ly.stride().split_last().unwrap_or((&0, &[]));
        // Where a row of `y` begins.
        let begin = |mut row: usize| {
            let mut at = ly.start_offset();
            for (size, step) in outer.iter().zip(steps).rev() {
                at += row % size * step;
                row /= size;
            }
            at
        };
        let rows = SHARE.div_ceil(width);
        let mut sum = vec![0.0; x.len()];
        let share = |(i, (sum, x)): (usize, (&mut [f32], &[f32]))| {
            for (j, (sum, x)) in sum.chunks_exact_mut(width).zip(x.chunks_exact(width)).enumerate() {
                let at = begin(i * rows + j);
                match step {
                    0 => sum.iter_mut().zip(x).for_each(|(s, x)| *s = x + y[at]),
                    1 => sum.iter_mut().zip(x).zip(&y[at..at + width]).for_each(|((s, x), y)| *s = x + y),
                    _ => sum.iter_mut().zip(x).enumerate().for_each(|(k, (s, x))| *s = x + y[at + k * step]),
                }
            }
        };
        sum.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width)).enumerate().for_each(share);
        Ok((CpuStorage::F32(sum), lx.shape().clone()))
    }
}

struct Map<F>(F);

impl<F: Fn(f32) -> f32 + Sync + Send> CustomOp1 for Map<F> {
    fn name(&self) -> &'static str {
        "map"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = dense(x, layout)?;
        let mut out = vec![0.0; x.len()];
        let share = |(out, x): (&mut [f32], &[f32])| out.iter_mut().zip(x).for_each(|(out, x)| *out = (self.0)(*x));
        out.par_chunks_mut(SHARE).zip(x.par_chunks(SHARE)).for_each(share);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// The elements of a contiguous tensor.
fn dense<'a>(x: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&x.as_slice::<f32>()?[from..to]),
        None => candle_core::bail!("the tensor is not contiguous"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;

    fn tensor(shape: &[usize], seed: f32) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 0.37).sin() * 3.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn bits(x: &Tensor) -> Vec<u32> {
        x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    proptest! {
        #[test]
        fn equal_to_candle_to_the_bit(
            shape in prop::collection::vec(1usize..7, 1..4), wide in 1usize..300, ones in prop::collection::vec(any::<bool>(), 4),
            lead in any::<bool>(), turn in any::<bool>(),
        ) {
            let mut shape = shape;
            shape.push(wide);
            let x = tensor(&shape, 1.0);
            let small: Vec<usize> = shape.iter().zip(ones.iter().cycle()).map(|(n, one)| if *one { 1 } else { *n }).collect();
            let small = if lead { &small[..] } else { &small[1..] };
            let y = tensor(small, 2.0);
            // Also where neither lies in memory as it is read.
            let (x, y) = match turn && small.len() == shape.len() {
                true => (x.transpose(0, 1).unwrap(), y.transpose(0, 1).unwrap()),
                false => (x, y),
            };
            prop_assert_eq!(bits(&add(&x, &y).unwrap()), bits(&x.broadcast_add(&y).unwrap()));
            prop_assert_eq!(bits(&map(&x, |v| v.max(0.0)).unwrap()), bits(&x.relu().unwrap()));
        }
    }

    #[test]
    fn large_small_and_empty_ones() {
        for shape in [&[3, 70_000][..], &[1, 512, 3_000], &[2, 8, 150, 150], &[0, 5], &[5, 0], &[1]] {
            let x = tensor(shape, 1.0);
            for y in [tensor(shape, 2.0), tensor(&shape[shape.len() - 1..], 3.0)] {
                assert_eq!(bits(&add(&x, &y).unwrap()), bits(&x.broadcast_add(&y).unwrap()), "{shape:?}");
            }
            assert_eq!(bits(&map(&x, f32::tanh).unwrap()), bits(&x.tanh().unwrap()), "{shape:?}");
        }
        assert!(add(&tensor(&[2, 3], 0.0), &tensor(&[2], 0.0)).is_err());
    }
}
