//! Tests of what C cannot see or do: options, panics, the table.

mod options;
mod panics;
mod table;
