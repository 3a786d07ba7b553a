//! Weight normalisation (Salimans & Kingma 2016), folded at load.

use super::weights::Weights;
use crate::error::Result;

/// The kernel of a layer, whether stored plain (`weight`), or as magnitude and direction under the names of PyTorch's old
/// (`weight_g`, `weight_v`) or new (`parametrizations.weight.original0`, `original1`) weight norm, over dimension 0.
pub(in crate::nn) fn kernel(w: &Weights, shape: &[usize]) -> Result<Vec<f32>> {
    let names = [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")];
    let Some((magnitude, direction)) = names.into_iter().find(|(_, v)| !w.has("weight") && w.has(v)) else {
        return w.values("weight", shape);
    };
    let mut kernel = w.values(direction, shape)?;
    let mut per_row = vec![1; shape.len()];
    per_row[0] = shape[0];
    let gains = w.values(magnitude, &per_row)?;
    for (row, gain) in kernel.chunks_exact_mut((shape[1..].iter().product::<usize>()).max(1)).zip(gains) {
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        // A direction of zero length has no product; PyTorch makes it NaN, which would silence the model less audibly.
        let scale = if norm > 0.0 { (f64::from(gain) / norm) as f32 } else { 0.0 };
        row.iter_mut().for_each(|v| *v *= scale);
    }
    Ok(kernel)
}
