//! Monotonic rational-quadratic splines (Durkan et al. 2019, "Neural Spline Flows"), with linear tails, inverted.

/// Least width and height of a bin, as a part of the interval, and least derivative at a knot.
const LEAST: f32 = 1e-3;

/// The spline over `-bound..bound` that a network describes by logits of the bins' `widths` and `heights` and by raw
/// `derivatives` at the inner knots (one fewer). Outside the interval it is the identity.
pub(in crate::nn) struct Spline<'a> {
    pub(in crate::nn) widths: &'a [f32],
    pub(in crate::nn) heights: &'a [f32],
    pub(in crate::nn) derivatives: &'a [f32],
    pub(in crate::nn) bound: f32,
}

impl Spline<'_> {
    /// The most bins that leave each its least width.
    pub(in crate::nn) const MAX_BINS: usize = 1000;

    /// The `x` at which the spline is `y`.
    pub(in crate::nn) fn inverse(&self, y: f32) -> f32 {
        if !(-self.bound..=self.bound).contains(&y) {
            return y;
        }
        let (xs, ys) = (knots(self.widths, self.bound), knots(self.heights, self.bound));
        let last = self.widths.len() - 1;
        let bin = ys[1..].iter().position(|top| y < *top).unwrap_or(last);
        let (width, height) = (xs[bin + 1] - xs[bin], ys[bin + 1] - ys[bin]);
        let slope = height / width;
        let (left, right) = (self.derivative(bin), self.derivative(bin + 1));

        // Within the bin, y is a rational function of x's place t in it: solve a t^2 + b t + c = 0 (eq. 6 to 8).
        let rise = y - ys[bin];
        let bend = left + right - 2.0 * slope;
        let a = height * (slope - left) + rise * bend;
        let b = height * left - rise * bend;
        let c = -slope * rise;
        let discriminant = (b * b - 4.0 * a * c).max(0.0);
        // This form of the root does not cancel for small a.
        let t = 2.0 * c / (-b - discriminant.sqrt());
        t * width + xs[bin]
    }

    /// At knot `i`; at both ends 1, so that the tails join smoothly.
    fn derivative(&self, i: usize) -> f32 {
        if i == 0 || i == self.widths.len() { 1.0 } else { LEAST + softplus(self.derivatives[i - 1]) }
    }
}

/// Cumulative softmax of `logits`, each bin at least [`LEAST`] wide, scaled to `-bound..bound`.
fn knots(logits: &[f32], bound: f32) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let parts: Vec<f32> = logits.iter().map(|v| (v - top).exp()).collect();
    let sum: f32 = parts.iter().sum();
    let free = 1.0 - LEAST * logits.len() as f32;
    let mut at = 0.0;
    let mut knots = vec![-bound];
    knots.extend(parts.iter().map(|part| {
        at += LEAST + free * part / sum;
        2.0 * bound * at - bound
    }));
    if let Some(last) = knots.last_mut() {
        *last = bound;
    }
    knots
}

fn softplus(v: f32) -> f32 {
    if v > 20.0 { v } else { v.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spline forwards (eq. 4 of the paper), to invert.
    fn forward(s: &Spline<'_>, x: f32) -> f32 {
        let (xs, ys) = (knots(s.widths, s.bound), knots(s.heights, s.bound));
        let bin = xs[1..].iter().position(|right| x < *right).unwrap();
        let (width, height) = (xs[bin + 1] - xs[bin], ys[bin + 1] - ys[bin]);
        let (t, slope) = ((x - xs[bin]) / width, height / width);
        let (l, r) = (s.derivative(bin), s.derivative(bin + 1));
        ys[bin] + height * (slope * t * t + l * t * (1.0 - t)) / (slope + (l + r - 2.0 * slope) * t * (1.0 - t))
    }

    #[test]
    fn inverts_and_is_the_identity_outside() {
        let s = Spline {
            widths: &[0.3, -1.0, 2.0, 0.0],
            heights: &[1.0, 0.0, -2.0, 0.5],
            derivatives: &[0.1, -3.0, 2.0],
            bound: 5.0,
        };
        for i in -499..500 {
            let x = i as f32 / 100.0;
            let y = forward(&s, x);
            assert!((s.inverse(y) - x).abs() < 1e-3, "{x} -> {y} -> {}", s.inverse(y));
        }
        for y in [-5.1, 7.0, f32::INFINITY] {
            assert_eq!(s.inverse(y), y);
        }
        assert!(s.inverse(f32::NAN).is_nan());
        assert!((s.inverse(5.0) - 5.0).abs() < 1e-4 && (s.inverse(-5.0) + 5.0).abs() < 1e-4);
    }
}
