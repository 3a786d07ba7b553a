//! Tests of what C cannot see or do: panics, the table.

mod panics;
mod table;
