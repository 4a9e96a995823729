//! Interruptions and threads change no bit.

use std::time::{Duration, Instant, SystemTime};

use triplet::finetune::Rng;

use crate::folder::{Folder, value};

/// Kills a run with SIGKILL at random instants, lets it go on, and compares all that it leaves with an unhurt run.
pub fn a_killed_run_is_the_run_that_was_not_killed() {
    let folder = Folder::new("killed");
    let start = Instant::now();
    let line = folder.finish("whole", &[]);
    let took = start.elapsed();
    let want = folder.files("whole");
    assert_eq!(value(&line, "skipped"), "1");
    let (first, last) = (value(&line, "validation_first"), value(&line, "validation_last"));
    assert!(last.parse::<f64>().unwrap() < first.parse::<f64>().unwrap(), "it learns nothing: {line}");

    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("  {line}\n  seed {seed}, unhurt in {took:.2?}");
    let mut rng = Rng::new(seed);
    for round in 0..2 {
        let out = format!("killed{round}");
        let (mut kills, mut updates) = (0, Vec::new());
        loop {
            let mut child = folder.start(&out, &[]);
            std::thread::sleep(Duration::from_secs_f64(rng.between(0.02, 0.6) * took.as_secs_f64()));
            if child.try_wait().unwrap().is_some_and(|status| status.success()) {
                break;
            }
            // SIGKILL on Unix.
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(!output.status.success() || output.stdout.starts_with(b"result"));
            kills += 1;
            updates.push(
                folder.path(&out).join("checkpoint.safetensors").metadata().map_or(0, |data| data.len()),
            );
            if kills == 40 {
                folder.finish(&out, &[]);
                break;
            }
        }
        println!("  round {round}: killed {kills} times; checkpoint lengths {updates:?}");
        assert!(kills >= 1);
        assert!(folder.files(&out) == want, "round {round}: other bits after {kills} kills");
    }
}

/// The whole way of the example: pictures decoded on threads, augmented, trained on, written.
pub fn threads_and_repetition_change_nothing() {
    let folder = Folder::new("threads");
    let words = ["--updates", "6"];
    folder.finish("one", &[&words[..], &["--threads", "1", "--workers", "1"]].concat());
    folder.finish("more", &[&words[..], &["--threads", "2", "--workers", "3", "--recompute"]].concat());
    assert!(folder.files("one") == folder.files("more"), "threads changed bits");
    folder.finish("again", &[&words[..], &["--threads", "2", "--workers", "3", "--recompute"]].concat());
    assert!(folder.files("again") == folder.files("more"), "a second run has other bits");
    folder.finish("other", &[&words[..], &["--seed", "2"]].concat());
    assert!(folder.files("one")[1] != folder.files("other")[1], "the seed changes nothing");
}
