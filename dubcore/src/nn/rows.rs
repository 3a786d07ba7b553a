//! Convolutions over time of channel-last activations: `[time, channels]`, a row per step.
//!
//! In this layout the windows of a convolution overlap in memory, so the matrix that im2col would build is a view of the
//! padded input with a row stride of one step, and the whole convolution is one matrix product. A dilated convolution is
//! the same after dealing the rows out to as many piles as the dilation; a transposed one is the same with all phases of
//! the stride as output channels. Products run on the calling thread: a result does not depend on the number of threads.

use candle_core::{Storage, Tensor};

use super::conv::ConvSpec;
use super::weight_norm::kernel;
use super::weights::Weights;
use super::{Act, Ctx};
use crate::error::{Error, Result};

/// A convolution with stride 1 and an odd or even number of taps; the output is as long as the input.
pub(crate) struct RowConv {
    /// `[taps, input, output]`.
    kernel: Vec<f32>,
    bias: Vec<f32>,
    input: usize,
    pub(in crate::nn) output: usize,
    taps: usize,
    dilation: usize,
}

impl RowConv {
    /// Reads `weight` `[output, input, width]`, weight-normalised or not, and, if asked, `bias`. Stride, padding and groups
    /// of the spec are not looked at.
    pub(crate) fn load(w: &Weights, spec: ConvSpec, bias: bool) -> Result<Self> {
        let ConvSpec { input, output, width: taps, dilation, .. } = spec;
        let stored = kernel(w, &[output, input, taps])?;
        Ok(Self::pack(stored, bias_of(w, output, bias)?, (output, input, taps), dilation))
    }

    /// Reads a linear layer, `weight` `[output, input]`: a convolution of one tap.
    pub(crate) fn linear(w: &Weights, input: usize, output: usize, bias: bool) -> Result<Self> {
        Ok(Self::pack(w.values("weight", &[output, input])?, bias_of(w, output, bias)?, (output, input, 1), 1))
    }

    fn pack(stored: Vec<f32>, bias: Vec<f32>, (output, input, taps): (usize, usize, usize), dilation: usize) -> Self {
        let mut kernel = vec![0.0; stored.len()];
        for (o, by_input) in stored.chunks_exact(input * taps).enumerate() {
            for (i, by_tap) in by_input.chunks_exact(taps).enumerate() {
                for (k, v) in by_tap.iter().enumerate() {
                    kernel[(k * input + i) * output + o] = *v;
                }
            }
        }
        Self { kernel, bias, input, output, taps, dilation }
    }

    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act) -> Result<Act> {
        ctx.check()?;
        let (b, t, c) = x.shape()?;
        if c != self.input {
            return Err(Error::internal(format!("a convolution of {} channels was given {c}", self.input)));
        }
        let mut out = Vec::with_capacity(b * t * self.output);
        with_values(&x.0, |values| {
            for row in values.chunks_exact((t * c).max(1)) {
                out.extend(self.apply(row, &mut Vec::new()));
            }
        })?;
        Act::new(out, (b, t, self.output))
    }

    /// The convolution of `x` `[t, input]`; `scratch` is room to work in.
    pub(in crate::nn) fn apply(&self, x: &[f32], scratch: &mut Vec<f32>) -> Vec<f32> {
        let t = x.len() / self.input;
        let mut out = Vec::with_capacity(t * self.output);
        self.begin(t, &mut out);
        self.accumulate(x, |v| v, scratch, &mut out);
        out
    }

    /// Makes `out` the bias in each of `t` rows.
    pub(in crate::nn) fn begin(&self, t: usize, out: &mut Vec<f32>) {
        out.clear();
        (0..t).for_each(|_| out.extend_from_slice(&self.bias));
    }

    /// Adds the bias to each row.
    pub(in crate::nn) fn add_bias(&self, out: &mut [f32]) {
        for row in out.chunks_exact_mut(self.output) {
            row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += b);
        }
    }

    /// Adds to `out` `[t, output]` the convolution, without bias, of `pre(x)` `[t, input]`.
    pub(in crate::nn) fn accumulate(&self, x: &[f32], pre: impl Fn(f32) -> f32, scratch: &mut Vec<f32>, out: &mut [f32]) {
        let Self { input: c, output: n, taps, dilation: d, .. } = *self;
        let t = x.len() / c;
        let left = (taps - 1) * d / 2;
        // Padded row p lies at place p / d of pile p % d.
        let pile = (t + (taps - 1) * d).div_ceil(d);
        scratch.clear();
        if d == 1 {
            scratch.resize(left * c, 0.0);
            scratch.extend(x.iter().map(|v| pre(*v)));
            scratch.resize(pile * c, 0.0);
        } else {
            scratch.resize(pile * d * c, 0.0);
            for (row, from) in x.chunks_exact(c).enumerate() {
                let p = row + left;
                let at = (p % d * pile + p / d) * c;
                scratch[at..at + c].iter_mut().zip(from).for_each(|(to, v)| *to = pre(*v));
            }
        }
        // Output row r + j d is the window of `taps` rows from place j of pile r.
        for r in 0..d.min(t) {
            let rows = (t - r).div_ceil(d);
            let windows = Strided { values: &scratch[r * pile * c..(r + 1) * pile * c], stride: c };
            product(windows, &self.kernel, (rows, n, taps * c), &mut out[r * n..], d * n);
        }
    }
}

/// A transposed convolution that lengthens by its stride: `padding = (width - stride) / 2`.
pub(crate) struct RowConvTranspose {
    /// As a convolution to `stride * output` channels.
    conv: RowConv,
    output: usize,
    stride: usize,
    padding: usize,
}

impl RowConvTranspose {
    /// Reads `weight` `[input, output, width]`, weight-normalised or not, and `bias`. `width` is at least `stride` and
    /// differs from it by an even number.
    pub(crate) fn load(w: &Weights, input: usize, output: usize, width: usize, stride: usize) -> Result<Self> {
        let stored = kernel(w, &[input, output, width])?;
        let bias = bias_of(w, output, true)?;
        let taps = width.div_ceil(stride);
        // Phase r of output step j is the sum over i of x[j - i] times tap i * stride + r.
        let mut kernel = vec![0.0; taps * input * stride * output];
        for (c, by_output) in stored.chunks_exact(output * width).enumerate() {
            for (o, by_tap) in by_output.chunks_exact(width).enumerate() {
                for (k, v) in by_tap.iter().enumerate() {
                    let (i, r) = (k / stride, k % stride);
                    kernel[(((taps - 1 - i) * input + c) * stride + r) * output + o] = *v;
                }
            }
        }
        let bias = bias.repeat(stride);
        let conv = RowConv { kernel, bias, input, output: stride * output, taps, dilation: 1 };
        Ok(Self { conv, output, stride, padding: (width - stride) / 2 })
    }

    /// How many input steps on either side an output step may depend on.
    pub(in crate::nn) fn reach(&self) -> usize {
        self.conv.taps
    }

    /// `[t, input]` to `[t * stride, output]`.
    pub(in crate::nn) fn apply(&self, x: &[f32], pre: impl Fn(f32) -> f32, scratch: &mut Vec<f32>, out: &mut Vec<f32>) {
        let RowConv { input: c, output: n, taps, .. } = self.conv;
        let t = x.len() / c;
        let rows = t + taps - 1;
        scratch.clear();
        scratch.resize((taps - 1) * c, 0.0);
        scratch.extend(x.iter().map(|v| pre(*v)));
        scratch.resize((t + 2 * (taps - 1)) * c, 0.0);
        self.conv.begin(rows, out);
        product(Strided { values: scratch, stride: c }, &self.conv.kernel, (rows, n, taps * c), out, n);
        out.drain(..self.padding * self.output);
        out.truncate(t * self.stride * self.output);
    }
}

fn bias_of(w: &Weights, output: usize, wanted: bool) -> Result<Vec<f32>> {
    if wanted { w.values("bias", &[output]) } else { Ok(vec![0.0; output]) }
}

/// A matrix whose rows begin `stride` values apart and may overlap.
#[derive(Clone, Copy)]
pub(in crate::nn) struct Strided<'a> {
    pub(in crate::nn) values: &'a [f32],
    pub(in crate::nn) stride: usize,
}

/// `out += a b` with `a` of `m` rows and `k` columns, `b` `[k, n]`, and rows of `out` `out_stride` apart.
pub(in crate::nn) fn product(a: Strided<'_>, b: &[f32], size: (usize, usize, usize), out: &mut [f32], out_stride: usize) {
    let n = size.1;
    product_strided(a, Strided { values: b, stride: n }, false, size, out, out_stride);
}

/// As [`product`], with `b` strided too, and given as its transpose (`n` rows of `k`) if `transposed`.
pub(in crate::nn) fn product_strided(
    a: Strided<'_>,
    b: Strided<'_>,
    transposed: bool,
    (m, n, k): (usize, usize, usize),
    out: &mut [f32],
    out_stride: usize,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let (b_rows, b_columns) = if transposed { (n, k) } else { (k, n) };
    assert!((m - 1) * a.stride + k <= a.values.len());
    assert!((b_rows - 1) * b.stride + b_columns <= b.values.len());
    assert!(n <= out_stride && (m - 1) * out_stride + n <= out.len());
    let (b_row, b_column) = if transposed { (1, b.stride as isize) } else { (b.stride as isize, 1) };
    // SAFETY: the asserts above bound every index that the strides can reach, in both inputs and in the output; the
    // output is borrowed mutably, and its rows do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            true,
            a.values.as_ptr(),
            1,
            a.stride as isize,
            b.values.as_ptr(),
            b_column,
            b_row,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Lends the values of a tensor, copied only if they are not in order.
pub(in crate::nn) fn with_values<R>(x: &Tensor, work: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(values) = &*storage else {
        return Err(Error::internal("values are not in main memory"));
    };
    let (from, to) = layout.contiguous_offsets().ok_or_else(|| Error::internal("values are not in order"))?;
    Ok(work(&values.as_slice::<f32>()?[from..to]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect()
    }

    fn close(a: &[f32], b: &Tensor) {
        let b: Vec<f32> = b.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?}\n{b:?}");
    }

    #[test]
    fn convolutions_equal_the_textbook() {
        for (t, taps, d) in [(1, 3, 1), (2, 3, 5), (9, 1, 1), (10, 5, 1), (11, 5, 2), (17, 3, 3), (40, 11, 5)] {
            let (c, n) = (3, 4);
            let (x, w, bias) = (ramp(t * c), ramp(n * c * taps), ramp(n));
            let conv = RowConv::pack(w.clone(), bias.clone(), (n, c, taps), d);
            let got = conv.apply(&x, &mut Vec::new());
            let tensor = |v: Vec<f32>, s: (usize, usize, usize)| Tensor::from_vec(v, s, &Device::Cpu).unwrap();
            let x = tensor(x, (1, t, c)).transpose(1, 2).unwrap().contiguous().unwrap();
            let y = x.conv1d(&tensor(w, (n, c, taps)), (taps - 1) * d / 2, 1, d, 1).unwrap();
            let y = y.broadcast_add(&tensor(bias, (1, n, 1))).unwrap().transpose(1, 2).unwrap();
            close(&got, &y);
        }
    }

    #[test]
    fn transposed_convolutions_equal_the_textbook() {
        use safetensors::tensor::{Dtype, TensorView};
        for (t, width, stride) in [(1, 16, 8), (5, 4, 2), (7, 8, 8), (6, 11, 5), (3, 7, 1), (4, 12, 4)] {
            let (c, n) = (3, 2);
            let (x, w, bias) = (ramp(t * c), ramp(c * n * width), ramp(n));
            let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
            let (wb, bb) = (bytes(&w), bytes(&bias));
            let file = safetensors::serialize(
                [
                    ("weight", TensorView::new(Dtype::F32, vec![c, n, width], &wb).unwrap()),
                    ("bias", TensorView::new(Dtype::F32, vec![n], &bb).unwrap()),
                ],
                None,
            )
            .unwrap();
            let conv = RowConvTranspose::load(&Weights::parse("x", file.into()).unwrap(), c, n, width, stride).unwrap();
            let mut got = Vec::new();
            conv.apply(&x, |v| v, &mut Vec::new(), &mut got);
            let tensor = |v: Vec<f32>, s: (usize, usize, usize)| Tensor::from_vec(v, s, &Device::Cpu).unwrap();
            let x = tensor(x, (1, t, c)).transpose(1, 2).unwrap().contiguous().unwrap();
            let y = x.conv_transpose1d(&tensor(w, (c, n, width)), (width - stride) / 2, 0, stride, 1, 1).unwrap();
            let y = y.broadcast_add(&tensor(bias, (1, n, 1))).unwrap().transpose(1, 2).unwrap();
            close(&got, &y);
        }
    }
}
