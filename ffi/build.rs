//! Gives the shared library its name, `libtriplet.so` and the ABI's number.

use std::env;
use std::fs;
use std::io;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/version.rs");
    let source = fs::read_to_string("src/version.rs")?;
    let abi =
        source.lines().find_map(|line| line.strip_prefix("pub const TRIPLET_ABI: u32 = ")?.strip_suffix(';'));
    let abi = abi.ok_or_else(|| io::Error::other("src/version.rs does not define TRIPLET_ABI"))?;
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtriplet.so.{abi}");
    }
    Ok(())
}
