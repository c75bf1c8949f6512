//! Any bytes as the value of a record: the fast path and the definition read the same click, or refuse for the same reason,
//! and what was read is written and read again as the same click.
#![no_main]

use clicks::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let read = wire::read(Some(value));
    assert_eq!(read, wire::read_json(value));
    if let Ok(read) = read {
        let click = read.to_click();
        assert_eq!(wire::decode(Some(wire::encode(&click).as_bytes())), Ok(click));
    }
});
