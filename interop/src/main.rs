//! The same work by Corncrake's core, OpenMLS and mls-rs, in turn, in one run.
//!
//! Suite 0x0003, one thread, bytes in to bytes out, stores in memory, full trees: everybody but the
//! founder came in by an external commit. In each round every implementation does each operation
//! once, so that what else the machine does falls on all of them. `cargo xtask bench core` runs it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

mod ours;
mod theirs_mls_rs;
mod theirs_openmls;

const SIZES: [usize; 4] = [2, 10, 100, 1000];
const ROUNDS: usize = 31;
const OPERATIONS: [&str; 7] =
    ["add", "update", "process", "merge", "join", "encrypt 1 KiB", "decrypt 1 KiB"];

/// A member of a group, as one implementation makes it.
trait Peer: Sized {
    /// A newcomer who waits to be added.
    type Newcomer;

    /// The founder and the last member of a group of `size` whose tree has no blank node.
    fn party(size: usize) -> [Self; 2];
    /// Stages a commit with a path and nothing else; gives the message.
    fn update(&mut self) -> Vec<u8>;
    /// Takes the own staged commit for true.
    fn merge(&mut self);
    /// Takes another member's commit.
    fn process(&mut self, commit: &[u8]);
    fn encrypt(&mut self, content: &[u8]) -> Vec<u8>;
    fn decrypt(&mut self, message: &[u8]) -> Vec<u8>;
    /// A newcomer and his key package.
    fn newcomer() -> (Self::Newcomer, Vec<u8>);
    /// Stages a commit with a path that adds one member; gives the Welcome, without the tree.
    fn add(&mut self, package: &[u8]) -> Vec<u8>;
    /// The tree after the staged commit, which is then forgotten.
    fn tree_and_forget(&mut self) -> Vec<u8>;
    /// Comes in by a Welcome with the tree beside.
    fn join(newcomer: Self::Newcomer, welcome: &[u8], tree: &[u8]) -> Self;
}

/// Times of one implementation, by operation.
type Times = [Vec<Duration>; OPERATIONS.len()];

/// One implementation under measurement.
struct Run<P> {
    party: [P; 2],
    times: Times,
}

/// One round of every operation.
trait Round {
    fn round(&mut self, number: usize);
    fn times(&mut self) -> &mut Times;
}

impl<P: Peer> Run<P> {
    fn new(size: usize) -> Box<Self> {
        Box::new(Self { party: P::party(size), times: Times::default() })
    }
}

impl<P: Peer> Round for Run<P> {
    fn round(&mut self, number: usize) {
        let [first, last] = &mut self.party;
        let (author, reader) = if number.is_multiple_of(2) { (first, last) } else { (last, first) };
        let [add, update, process, merge, join, encrypt, decrypt] = &mut self.times;

        let (newcomer, package) = P::newcomer();
        let welcome = time(add, || author.add(&package));
        let tree = author.tree_and_forget();
        time(join, || P::join(newcomer, &welcome, &tree));

        let commit = time(update, || author.update());
        time(merge, || author.merge());
        time(process, || reader.process(&commit));

        let content = [7; 1024];
        for _ in 0..4 {
            let sealed = time(encrypt, || author.encrypt(&content));
            let opened = time(decrypt, || reader.decrypt(&sealed));
            assert_eq!(opened, content, "what was sealed is opened");
        }
    }

    fn times(&mut self) -> &mut Times {
        &mut self.times
    }
}

fn time<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = black_box(work());
    times.push(begun.elapsed());
    value
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e6
}

fn main() {
    println!("median µs; the last column: the best peer's time over ours");
    for size in SIZES {
        let mut runs: [(&str, Box<dyn Round>); 4] = [
            ("corncrake", Run::<ours::Member>::new(size)),
            ("openmls", Run::<theirs_openmls::Member>::new(size)),
            ("mls-rs", Run::<theirs_mls_rs::RustCrypto>::new(size)),
            ("mls-rs/awslc", Run::<theirs_mls_rs::AwsLc>::new(size)),
        ];
        for number in 0..ROUNDS {
            runs.iter_mut().for_each(|(_, run)| run.round(number));
        }
        let names: String = runs.iter().map(|(name, _)| format!("{name:>14}")).collect();
        println!("\n{:<16}{names}{:>8}", format!("N = {size}"), "ratio");
        for (index, operation) in OPERATIONS.iter().enumerate() {
            let medians: Vec<f64> =
                runs.iter_mut().map(|(_, run)| median(&mut run.times()[index])).collect();
            let best = medians[1..].iter().copied().fold(f64::INFINITY, f64::min);
            let cells: String = medians.iter().map(|micros| format!("{micros:>14.1}")).collect();
            println!("{operation:<16}{cells}{:>8.2}", best / medians[0]);
        }
    }
}
