//! A process that forks, as web servers do after they have loaded everything: each child finishes a dub, whatever other
//! threads were doing at that moment. A test binary of its own, as a fork concerns the whole process.

#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::*;
use dubcore::media::Input;
use dubcore::{
    Audio, DubModels, DubRequest, Dubber, Factory, Job, KeepAll, Lang, LoadOptions, Output, Pipeline, ResultCache,
    ResultCacheOptions, TranslateOptions,
};

/// The process-wide factory's dubber, on a few seconds of speech.
fn dub(clip: &Audio, job: &Job) -> (String, Vec<u8>) {
    let factory = Factory::global().unwrap();
    let dubber = Dubber::from_factory(factory, &DubModels::default(), Some(Lang::EN), Lang::ES, job).unwrap();
    let request = DubRequest::new(Input::from(clip.clone()), Lang::ES).from(Lang::EN).output(Output::Memory);
    let dub = dubber.start(request, job.clone()).unwrap().finish().unwrap();
    assert!(dub.complete && !dub.lines.is_empty() && !dub.cached);
    let text: Vec<_> = dub.lines.iter().map(|l| l.text.clone()).collect();
    (text.join(" "), dub.track.unwrap())
}

/// Forks; the child does `work` and exits with 0 if that gave `true`.
fn fork(work: impl FnOnce() -> bool) -> libc::pid_t {
    // SAFETY: the child runs our own code and leaves by `_exit`, so that no destructor or exit handler of the parent's runs
    // twice. That it may use locks and threads is what is tested.
    match unsafe { libc::fork() } {
        0 => {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if good { 0 } else { 1 }) }
        }
        pid => {
            assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
            pid
        }
    }
}

/// Waits until a child has ended well; one that hangs is killed, and told.
fn wait(pid: libc::pid_t, what: &str) {
    let began = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place to write to, `pid` our own child.
        let done = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        assert!(done >= 0, "waitpid: {}", std::io::Error::last_os_error());
        if done == pid {
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{what}: the child ended with {status:#x}");
            return;
        }
        if began.elapsed() > Duration::from_secs(120) {
            // SAFETY: as above.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("{what}: the child hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok()).collect()
}

#[test]
fn children_finish_their_dubs() {
    let clip = clip_audio("kitchen.wav").slice(span(0.0, 3.0));
    // A fork before anything was used.
    let early = clip.clone();
    wait(fork(move || !dub(&early, &Job::new()).1.is_empty()), "before the first use");

    let want = dub(&clip, &Job::new());
    // Nothing computes beside the pool: other threads would be missing in a child, and more than the host allows.
    let threads = threads();
    let cores = std::thread::available_parallelism().unwrap().get();
    let (helpers, pool): (Vec<_>, Vec<_>) =
        threads.iter().filter(|t| t.starts_with("dubcore-")).partition(|t| t.starts_with("dubcore-helper"));
    // The helpers of kernels work in the place of threads of the pool that do nothing.
    assert_eq!((pool.len(), helpers.len()), (cores, cores - 1), "{threads:?}");
    assert!(!threads.iter().any(|t| t.contains("candle") || t.contains("rayon")), "{threads:?}");
    for i in 0..50 {
        wait(fork(|| same(&clip, &want)), &format!("idle, fork {i}"));
    }

    // Eight threads load, infer and remember meanwhile, in factories of their own and in the one of the process.
    let stop = Arc::new(AtomicBool::new(false));
    let rounds_done = Arc::new(AtomicUsize::new(0));
    let copy = Arc::new(ModelCopy::new("tts-es"));
    let results = ResultCache::new(ResultCacheOptions::default()).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let (stop, count, copy, results, clip) =
                (stop.clone(), rounds_done.clone(), copy.clone(), results.clone(), clip.clone());
            std::thread::spawn(move || {
                let own = Factory::builder().policy(KeepAll).results(results).build().unwrap();
                for i in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    match t % 4 {
                        0 => drop(own.tts(&copy.model(), &LoadOptions::default(), &Job::new()).map(|_| own.clear(&Job::new()))),
                        1 => {
                            let opts = TranslateOptions::new(Lang::EN, Lang::ES);
                            let translator = own.results().unwrap().translator(translator());
                            translator.translate(&[&format!("It is {i} o'clock.")], &opts, &Job::new()).remove(0).unwrap();
                        }
                        2 => drop(dub(&clip, &Job::new())),
                        _ => drop(Factory::global().unwrap().status()),
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for i in 0..50u64 {
        std::thread::sleep(Duration::from_millis(i * 7919 % 23));
        let results = results.clone();
        let child = fork(|| {
            // What remembers is usable, too, whoever was at it.
            let opts = TranslateOptions::new(Lang::EN, Lang::ES);
            let pen = results.translator(translator());
            let again = |_| pen.translate(&["Good morning."], &opts, &Job::new()).remove(0).unwrap().metadata.cached;
            same(&clip, &want) && [false, true].map(again) == [false, true]
        });
        wait(child, &format!("busy, fork {i}"));
    }
    stop.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert!(rounds_done.load(Ordering::SeqCst) > 50, "the threads did something");
    // The parent is none the worse.
    assert!(dub(&clip, &Job::new()) == want);
}

/// In a child: it has the models of its parent, used by nobody, loads none, and gives the same.
fn same(clip: &Audio, want: &(String, Vec<u8>)) -> bool {
    let before = Factory::global().unwrap().status();
    let good = dub(clip, &Job::new()) == *want && Factory::global().unwrap().status().loads == before.loads;
    good && before.residents.len() == 3 && before.residents.iter().all(|r| r.in_use == 0)
}
