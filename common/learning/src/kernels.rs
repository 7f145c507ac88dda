//! Arithmetic on slices of `f32`, on one thread, chosen at run time for the processor.
//!
//! **One law: the same bits on every processor.** A product's elements are each a chain of fused
//! multiply-adds in the order of the inner dimension, however many elements an instruction set
//! works on at a time; what is not a product goes element by element, and sums run in sixteen lanes that
//! are added up in a fixed order. So the portable path is not only close to the fast ones but
//! equal, and tests compare them for equality.
//!
//! `FEDISTILL_KERNELS` (`portable`, `avx2`, `avx512`) keeps to a set that the processor has.

mod choice;
mod depthwise;
mod elementwise;
mod lanes;
mod math;
mod product;
mod softmax;
mod tile;
mod transpose;
mod window;

pub(crate) use choice::{Kernels, kernels, multiversion};
#[cfg(test)]
pub(crate) use choice::{available, with_kernels};
pub(crate) use depthwise::Depthwise;
pub(crate) use elementwise::{
    AdamW, adamw, add, add_relu, add_rows, clamp, descend, mask, momentum, relu, squared_distances,
};
pub(crate) use math::{exp, lanes_sum, normal};
pub(crate) use product::{Left, Panels, Right, product, product_within};
pub(crate) use softmax::{
    cross_entropy, divergence, divergence_from_shares, shares_rows, soft_cross_entropy,
    softmax_gradient, softmax_in_place, softmax_rows,
};
pub(crate) use tile::{Ending, Start};
pub(crate) use transpose::transpose;
pub(crate) use window::{Axis, Window, channels_last};
