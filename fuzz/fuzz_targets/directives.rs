//! Fuzzes `directives`; what it does with the bytes stands in `bodies`.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::media_bodies::directives(data));
