//! Texts that nobody would write: the Dockerfiles of the end-to-end suite, torn apart and put together again.
//!
//! `CORACLE_FUZZ_SECONDS=3600 CORACLE_FUZZ_SEED=1 cargo test -p coracle-build --test fuzz -- --nocapture` goes on
//! for an hour. Without that it is a second of it. A failure prints the text; the same seed gives the same texts.

mod dockerfiles;

use coracle_build::Address;
use dockerfiles::{all, has_a_place, meant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What means something somewhere.
const WORDS: [&str; 75] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "EXPOSE ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "SHELL ",
    "USER ",
    "VOLUME ",
    "WORKDIR ",
    "CMD ",
    "ENTRYPOINT ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "scratch",
    " AS ",
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "\t",
    " ",
    "$",
    "${",
    "}",
    "${A:-",
    "${A:+",
    "${A:?",
    "${A#",
    "${A##",
    "${A%",
    "${A/",
    "//",
    "$A",
    "\"",
    "'",
    "[",
    "]",
    "[\"",
    "\",\"",
    "\"]",
    "<<E",
    "<<-E",
    "<<\"E\"",
    "E\n",
    "3<<E",
    "#",
    "# escape=`\n",
    "# check=error=true\n",
    "# syntax=docker/dockerfile:1\n",
    "--from=0 ",
    "--mount=type=cache,target=/c ",
    "--mount=type=secret,id=a,env=B ",
    "--chmod=u=rwX ",
    "--exclude=** ",
    "--parents ",
    "--device=a.b/c=*,required ",
    "--platform=$BUILDPLATFORM ",
    "--interval=1h2m3.5s ",
    "--retries=3 ",
    "--",
    "=",
    "*",
    "**/",
    "[a-",
    "../",
    "65535/udp",
    "0-65535",
    "\u{feff}",
    "ä",
    "\0",
];
/// Longest text that is made, in bytes.
const LONGEST: usize = 20_000;
/// Longest time that a text may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers that look random (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits fit") % bound.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A part of a text, at most `longest` characters.
    fn part(&mut self, text: &[char], longest: usize) -> std::ops::Range<usize> {
        let start = self.below(text.len() + 1);
        let length = self.below(longest + 1).min(text.len() - start);
        start..start + length
    }
}

/// A text that comes of another one.
fn mutated(text: &str, corpus: &[String], random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(6) {
        let place = random.below(letters.len() + 1);
        match random.below(8) {
            0 => drop(letters.drain(random.part(&letters, 40))),
            1 | 2 => drop(letters.splice(place..place, random.pick(&WORDS).chars())),
            3 => {
                let range = random.part(&letters, 30);
                drop(letters.splice(range, random.pick(&WORDS).chars()));
            }
            4 => {
                let part: Vec<char> = letters[random.part(&letters, 60)].to_vec();
                let exponent = random.below(9);
                let times = 1 + random.below(1 << exponent);
                let many: Vec<char> = part.iter().copied().cycle().take(part.len() * times).collect();
                drop(letters.splice(place..place, many));
            }
            5 => {
                let other: Vec<char> = random.pick(corpus).chars().collect();
                let part = other[random.part(&other, 200)].to_vec();
                drop(letters.splice(place..place, part));
            }
            6 => {
                let other = random.pick(corpus);
                let lines: Vec<&str> = other.lines().collect();
                if !lines.is_empty() {
                    let line = format!("\n{}\n", random.pick(&lines));
                    drop(letters.splice(place..place, line.chars()));
                }
            }
            _ => {
                let letter = u32::try_from(random.below(0x300)).ok().and_then(char::from_u32).unwrap_or('x');
                if let Some(there) = letters.get_mut(place) {
                    *there = letter;
                }
            }
        }
    }
    let mut text: String = letters.into_iter().collect();
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

/// Everything that this crate does with a text, which may refuse it and nothing else.
fn try_text(text: &str) {
    let first = meant(text);
    if let Err(error) = &first {
        assert!(has_a_place(error, text), "no place: {error:?}");
    }
    assert_eq!(first, meant(text), "not the same twice");
    for line in text.lines() {
        // Refusing is fine.
        let _ = Address::of_source(line);
        let _ = coracle_build::parse_change(line);
    }
}

#[test]
fn nothing_that_can_be_written_makes_it_panic() {
    let number = |name: &str, usual: u64| -> u64 {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (seconds, seed) = (number("CORACLE_FUZZ_SECONDS", 1), number("CORACLE_FUZZ_SEED", 1));
    let mut corpus: Vec<String> = all().into_iter().map(|(_, text)| text).collect();
    let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (begun, mut texts, mut accepted, mut slowest) = (Instant::now(), 0_u64, 0_u64, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let text = mutated(random.pick(&corpus).as_str(), &corpus, random);
        let since = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| try_text(&text))).is_err() {
            panic!("seed {seed}, text {texts}: {text:?}");
        }
        assert!(since.elapsed() < PATIENCE, "seed {seed}, text {texts} took {:?}: {text:?}", since.elapsed());
        slowest = slowest.max(since.elapsed());
        texts += 1;
        // What is still a Dockerfile is a good beginning of others.
        if meant(&text).is_ok() {
            accepted += 1;
            let place = random.below(4000);
            if place < corpus.len() { corpus[place] = text } else { corpus.push(text) }
        }
    }
    #[expect(clippy::print_stdout, reason = "the result of a long run")]
    {
        println!(
            "seed {seed}: {texts} texts in {seconds} s, {accepted} of them Dockerfiles; the slowest took {slowest:?}"
        );
    }
}
