use rand_chacha::ChaCha20Rng;

use super::{Backward, Layer};

/// The largest of each 2 x 2 square, in steps of 2; an odd last row or column is left out. The
/// whole gradient goes to the first largest value.
pub(crate) struct MaxPool {
    channels: usize,
    height: usize,
    width: usize,
    chosen: Vec<u32>,
}

impl MaxPool {
    /// `height` and `width` are at least 2.
    pub(crate) fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            chosen: Vec::new(),
        }
    }
}

impl Layer for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn output(&self) -> usize {
        self.channels * (self.height / 2) * (self.width / 2)
    }

    fn forward(
        &mut self,
        _: &[f32],
        x: &[f32],
        y: &mut [f32],
        _: usize,
        _: Option<&mut ChaCha20Rng>,
    ) {
        self.chosen.clear();
        let (height, width) = (self.height, self.width);
        let mut out = y.iter_mut();
        // Planes of all samples and channels lie one after the other.
        for start in (0..x.len()).step_by(height * width) {
            for row in 0..height / 2 {
                for column in 0..width / 2 {
                    let corner = start + 2 * row * width + 2 * column;
                    let mut best = corner;
                    for at in [corner + 1, corner + width, corner + width + 1] {
                        if x[at] > x[best] {
                            best = at;
                        }
                    }
                    self.chosen.push(best as u32);
                    if let Some(y) = out.next() {
                        *y = x[best];
                    }
                }
            }
        }
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        dx.fill(0.0);
        for (&at, dy) in self.chosen.iter().zip(pass.dy) {
            dx[at as usize] += dy;
        }
    }
}
