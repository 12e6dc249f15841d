#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockleak::fuzzing::run("lines", data));
