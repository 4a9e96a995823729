//! Lists the NVIDIA GPUs that the driver knows, or says why there are none.
//!
//!     cargo run --release --features cuda --example cuda_devices

use std::process::ExitCode;

use triplet::cuda::driver::Driver;

fn main() -> ExitCode {
    match list() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> triplet::Result<()> {
    let driver = Driver::open()?;
    println!("driver of CUDA {}.{}", driver.version()? / 1000, driver.version()? % 1000 / 10);
    for ordinal in 0..driver.devices()? {
        let context = driver.context(ordinal)?;
        let info = context.info();
        let (name, memory) = (&info.name, info.memory >> 20);
        println!(
            "cuda:{ordinal} {name}, compute capability {}, {memory} MiB, {} free",
            info.compute,
            context.free_memory()? >> 20
        );
    }
    Ok(())
}
