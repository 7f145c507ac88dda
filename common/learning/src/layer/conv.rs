use rand_chacha::ChaCha20Rng;

use super::{Backward, Layer, Start, Tensor};
use crate::kernels::{Matrix, multiply};

/// Convolution with an odd square kernel, step 1, padded with zeros to the same size. Channels
/// first.
pub(crate) struct Conv {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    height: usize,
    width: usize,
    /// Of one sample: a column per pixel holds what the kernel sees there.
    columns: Vec<f32>,
}

impl Conv {
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        height: usize,
        width: usize,
    ) -> Self {
        Self {
            inputs,
            outputs,
            kernel,
            height,
            width,
            columns: vec![0.0; inputs * kernel * kernel * height * width],
        }
    }

    fn seen(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    fn area(&self) -> usize {
        self.height * self.width
    }

    /// Calls `visit` with each stretch of a row that the kernel sees: where it begins in
    /// `columns`, where in the sample, and its length. What lies in the padding is not visited.
    fn stretches(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (height, width, pad) = (self.height, self.width, self.kernel / 2);
        let mut line = 0;
        for channel in 0..self.inputs {
            for down in 0..self.kernel {
                for right in 0..self.kernel {
                    // Output rows and columns whose input lies inside the image.
                    let rows =
                        pad.saturating_sub(down)..height.min((height + pad).saturating_sub(down));
                    let from = pad.saturating_sub(right);
                    let to = width.min((width + pad).saturating_sub(right));
                    if from < to {
                        for row in rows {
                            let source = (channel * height + row + down - pad) * width;
                            let target = line * height * width + row * width;
                            visit(target + from, source + from + right - pad, to - from);
                        }
                    }
                    line += 1;
                }
            }
        }
    }

    fn unfold(&mut self, sample: &[f32]) {
        let mut columns = std::mem::take(&mut self.columns);
        // The padding stays zero from the start: the same places are written each time.
        self.stretches(|to, from, length| {
            columns[to..to + length].copy_from_slice(&sample[from..from + length]);
        });
        self.columns = columns;
    }

    fn fold(&self, columns: &[f32], sample: &mut [f32]) {
        sample.fill(0.0);
        self.stretches(|from, to, length| {
            let target = &mut sample[to..to + length];
            let source = &columns[from..from + length];
            target.iter_mut().zip(source).for_each(|(t, s)| *t += s);
        });
    }
}

impl Layer for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn output(&self) -> usize {
        self.outputs * self.area()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let start = Start::Uniform((self.seen() as f32).sqrt().recip());
        vec![
            Tensor {
                name: "weight",
                shape: vec![self.outputs, self.inputs, self.kernel, self.kernel],
                start,
            },
            Tensor {
                name: "bias",
                shape: vec![self.outputs],
                start,
            },
        ]
    }

    fn forward(
        &mut self,
        weights: &[f32],
        x: &[f32],
        y: &mut [f32],
        _: usize,
        _: Option<&mut ChaCha20Rng>,
    ) {
        let (area, seen, outputs) = (self.area(), self.seen(), self.outputs);
        let (kernel, bias) = weights.split_at(outputs * seen);
        let kernel = Matrix::new(kernel, outputs, seen);
        for (x, y) in x
            .chunks(self.inputs * area)
            .zip(y.chunks_mut(outputs * area))
        {
            self.unfold(x);
            for (plane, bias) in y.chunks_mut(area).zip(bias) {
                plane.fill(*bias);
            }
            multiply(y, true, kernel, Matrix::new(&self.columns, seen, area));
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], mut dx: Option<&mut [f32]>) {
        let (area, seen, outputs) = (self.area(), self.seen(), self.outputs);
        let kernel = Matrix::new(&pass.weights[..outputs * seen], outputs, seen);
        dw.fill(0.0);
        let (dkernel, dbias) = dw.split_at_mut(outputs * seen);
        let mut dcolumns = vec![0.0; if dx.is_some() { seen * area } else { 0 }];
        let input = self.inputs * area;
        let samples = pass.x.chunks(input).zip(pass.dy.chunks(outputs * area));
        for (index, (x, dy)) in samples.enumerate() {
            for (dbias, plane) in dbias.iter_mut().zip(dy.chunks(area)) {
                *dbias += plane.iter().sum::<f32>();
            }
            self.unfold(x);
            let dy = Matrix::new(dy, outputs, area);
            let columns = Matrix::new(&self.columns, seen, area);
            multiply(dkernel, true, dy, columns.transposed());
            if let Some(dx) = dx.as_deref_mut() {
                multiply(&mut dcolumns, false, kernel.transposed(), dy);
                self.fold(&dcolumns, &mut dx[index * input..(index + 1) * input]);
            }
        }
    }
}
