//! Sixteen `f32` side by side, on each set of instructions.
#![allow(
    unsafe_code,
    reason = "intrinsics and raw loads; every method states what it needs"
)]

/// Lanes in a vector, whatever the registers' width.
pub(crate) const LANES: usize = 16;

/// A vector of [`LANES`] values.
///
/// # Safety
/// All methods need a processor that has the instruction set; loads and stores need memory for as
/// many values as they say. Nothing needs alignment.
pub(crate) trait Lanes: Copy {
    type Vector: Copy;

    unsafe fn zero() -> Self::Vector;
    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// The first `count` (at most 16) values, then zeros.
    unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// Only the first `count` (at most 16) values.
    unsafe fn store_first(to: *mut f32, count: usize, vector: Self::Vector);
    /// `a * b + c`, rounded once.
    unsafe fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `if 0 > a { 0 } else { a }`: what is no number stays none.
    unsafe fn positive(a: Self::Vector) -> Self::Vector;
}

#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type Vector = [f32; LANES];

    #[inline(always)]
    unsafe fn zero() -> Self::Vector {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Vector {
        // SAFETY: the caller's; an array of f32 may be read at any f32's alignment.
        unsafe { from.cast::<Self::Vector>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector {
        let mut vector = [0.0; LANES];
        for (lane, value) in vector.iter_mut().take(count).enumerate() {
            // SAFETY: `lane < count`, and the caller has that many.
            *value = unsafe { *from.add(lane) };
        }
        vector
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::Vector>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, count: usize, vector: Self::Vector) {
        for (lane, value) in vector.into_iter().take(count).enumerate() {
            // SAFETY: `lane < count`, and the caller has that many.
            unsafe { *to.add(lane) = value };
        }
    }

    #[inline(always)]
    unsafe fn fused(a: Self::Vector, b: Self::Vector, mut c: Self::Vector) -> Self::Vector {
        for lane in 0..LANES {
            c[lane] = a[lane].mul_add(b[lane], c[lane]);
        }
        c
    }

    #[inline(always)]
    unsafe fn positive(mut a: Self::Vector) -> Self::Vector {
        for value in &mut a {
            *value = if 0.0 > *value { 0.0 } else { *value };
        }
        a
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::Neon;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{LANES, Lanes};

    /// Four registers of four.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    const WIDTH: usize = 4;

    // SAFETY of all blocks below: the trait's contract; the first `count` values go through an array.
    impl Lanes for Neon {
        type Vector = [float32x4_t; LANES / WIDTH];

        #[inline(always)]
        unsafe fn zero() -> Self::Vector {
            unsafe { Self::splat(0.0) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self::Vector {
            unsafe { [vdupq_n_f32(value); LANES / WIDTH] }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::Vector {
            unsafe {
                [
                    vld1q_f32(from),
                    vld1q_f32(from.add(WIDTH)),
                    vld1q_f32(from.add(2 * WIDTH)),
                    vld1q_f32(from.add(3 * WIDTH)),
                ]
            }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector {
            unsafe {
                let mut values = [0.0; LANES];
                values.as_mut_ptr().copy_from_nonoverlapping(from, count);
                Self::load(values.as_ptr())
            }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: Self::Vector) {
            unsafe {
                for (at, register) in vector.into_iter().enumerate() {
                    vst1q_f32(to.add(WIDTH * at), register);
                }
            }
        }

        #[inline(always)]
        unsafe fn store_first(to: *mut f32, count: usize, vector: Self::Vector) {
            unsafe {
                let mut values = [0.0; LANES];
                Self::store(values.as_mut_ptr(), vector);
                to.copy_from_nonoverlapping(values.as_ptr(), count);
            }
        }

        #[inline(always)]
        unsafe fn fused(a: Self::Vector, b: Self::Vector, mut c: Self::Vector) -> Self::Vector {
            for (c, (a, b)) in c.iter_mut().zip(a.into_iter().zip(b)) {
                *c = unsafe { vfmaq_f32(*c, a, b) };
            }
            c
        }

        #[inline(always)]
        unsafe fn positive(mut a: Self::Vector) -> Self::Vector {
            for a in &mut a {
                *a = unsafe {
                    let zero = vdupq_n_f32(0.0);
                    vbslq_f32(vcgtq_f32(zero, *a), zero, *a)
                };
            }
            a
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes};

    /// Two registers of eight.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// All ones where a lane counts: `MASKS[16 - count..]` begins with `count` of them.
    static MASKS: [i32; 2 * LANES] = {
        let mut masks = [0; 2 * LANES];
        let mut lane = 0;
        while lane < LANES {
            masks[lane] = -1;
            lane += 1;
        }
        masks
    };

    /// # Safety
    /// AVX; `count <= 16`.
    #[inline(always)]
    unsafe fn masks(count: usize) -> [__m256i; 2] {
        // SAFETY: 16 - count + 16 <= 32, the length of MASKS.
        unsafe {
            let from = MASKS.as_ptr().add(LANES - count).cast::<__m256i>();
            [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))]
        }
    }

    // SAFETY of all blocks below: the trait's contract; masked accesses touch only counted lanes.
    impl Lanes for Avx2 {
        type Vector = [__m256; 2];

        #[inline(always)]
        unsafe fn zero() -> Self::Vector {
            unsafe { [_mm256_setzero_ps(); 2] }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self::Vector {
            unsafe { [_mm256_set1_ps(value); 2] }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::Vector {
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector {
            unsafe {
                let [low, high] = masks(count);
                let second = _mm256_maskload_ps(from.wrapping_add(8), high);
                [_mm256_maskload_ps(from, low), second]
            }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: Self::Vector) {
            unsafe {
                _mm256_storeu_ps(to, vector[0]);
                _mm256_storeu_ps(to.add(8), vector[1]);
            }
        }

        #[inline(always)]
        unsafe fn store_first(to: *mut f32, count: usize, vector: Self::Vector) {
            unsafe {
                let [low, high] = masks(count);
                _mm256_maskstore_ps(to, low, vector[0]);
                _mm256_maskstore_ps(to.wrapping_add(8), high, vector[1]);
            }
        }

        #[inline(always)]
        unsafe fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
            unsafe {
                [
                    _mm256_fmadd_ps(a[0], b[0], c[0]),
                    _mm256_fmadd_ps(a[1], b[1], c[1]),
                ]
            }
        }

        #[inline(always)]
        unsafe fn positive(a: Self::Vector) -> Self::Vector {
            // The second operand is the result where the first is not greater.
            unsafe {
                let zero = _mm256_setzero_ps();
                [_mm256_max_ps(zero, a[0]), _mm256_max_ps(zero, a[1])]
            }
        }
    }

    /// One register of sixteen.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    /// The lowest `count` (at most 16) bits.
    #[inline(always)]
    fn bits(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    impl Lanes for Avx512 {
        type Vector = __m512;

        #[inline(always)]
        unsafe fn zero() -> Self::Vector {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self::Vector {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::Vector {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector {
            unsafe { _mm512_maskz_loadu_ps(bits(count), from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: Self::Vector) {
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn store_first(to: *mut f32, count: usize, vector: Self::Vector) {
            unsafe { _mm512_mask_storeu_ps(to, bits(count), vector) }
        }

        #[inline(always)]
        unsafe fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn positive(a: Self::Vector) -> Self::Vector {
            unsafe { _mm512_max_ps(_mm512_setzero_ps(), a) }
        }
    }
}
