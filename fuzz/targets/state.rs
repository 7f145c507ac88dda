#![no_main]

use fedistill_decoders::target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (target("state").read)(bytes);
});
