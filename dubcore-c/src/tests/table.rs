//! Handles are told apart.

use crate::error::Status;
use crate::handle::{Audio, Handle, Job, Text, free, get, put};
use crate::table::{Key, Table};

#[test]
fn a_place_that_is_used_again_does_not_answer_to_an_old_key() {
    let table = Table::new();
    let old = table.insert('a').unwrap();
    assert_eq!(table.remove(old), Some('a'));
    let new = table.insert('b').unwrap();
    assert_eq!(new.slot, old.slot);
    assert_eq!((table.get(old), table.remove(old), table.get(new)), (None, None, Some('b')));
    assert_eq!(table.get(Key { slot: 0, generation: 0 }), None);
    assert_eq!(table.get(Key { slot: 7, generation: 1 }), None);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_worn_place_is_not_used_again() {
    let table = Table::new();
    let first = table.insert('a').unwrap();
    table.wear(u32::MAX);
    let last = Key { generation: u32::MAX, ..first };
    assert_eq!((table.get(first), table.remove(last), table.get(last)), (None, Some('a'), None));
    assert_ne!(table.insert('b').unwrap().slot, first.slot);
}

#[test]
fn what_is_not_of_the_type_is_named() {
    let job: Job = put(engine::Job::new()).unwrap();
    let cast = Audio::new(job.key(), job.kind());
    assert_eq!(get(cast, "audio").unwrap_err().to_string(), "audio is a dub_job: it must be a dub_audio");
    // Whoever makes up the kind, too, has no such object.
    assert!(get(Audio::new(job.key(), Audio::KIND), "audio").unwrap_err().to_string().starts_with("audio is no live dub_audio"));
    assert_eq!(free(cast), Status::InvalidArgument);
    assert_eq!(free(Text::new(Key { slot: 0, generation: 0 }, 0)), Status::Ok);
    assert_eq!((free(job), free(job)), (Status::Ok, Status::InvalidArgument));
}

#[test]
fn what_a_call_has_outlives_its_handle() {
    let job: Job = put(engine::Job::new()).unwrap();
    let used = get(job, "job").unwrap();
    assert_eq!(free(job), Status::Ok);
    used.cancel();
    assert!(used.is_cancelled());
}
