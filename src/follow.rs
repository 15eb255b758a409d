//! The only read path: from a cursor on, up to a fixed watermark.
//!
//! What a visitor follows is `Public`, a type that cannot name the staff lane; so a note that reaches a
//! visitor is a compile error, not a bug to look for.

use lodge_storage::{Error, Lane, Log, Position, Record};

/// What the public may read.
#[derive(Debug, Clone)]
pub struct Public(Log);

/// What staff may read: both lanes.
#[derive(Debug, Clone)]
pub struct Staff(Log);

/// What a connection reads with. In the public's hands the staff lane is empty.
#[derive(Debug, Clone)]
pub enum Follow {
    Public(Public),
    Staff(Staff),
}

impl Follow {
    pub fn since(
        &self,
        conversation: u64,
        cursor: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        match self {
            Follow::Public(it) => it.since(conversation, cursor, upto, limit),
            Follow::Staff(it) => it.since(conversation, cursor, upto, limit),
        }
    }

    pub fn page(
        &self,
        conversation: u64,
        lane: Lane,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        match (self, lane) {
            (Follow::Public(it), Lane::Public) => it.page(conversation, before, limit),
            (Follow::Public(_), Lane::Staff) => Ok(Vec::new()),
            (Follow::Staff(it), lane) => it.page(conversation, lane, before, limit),
        }
    }

    pub fn range(
        &self,
        conversation: u64,
        lane: Lane,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        match (self, lane) {
            (Follow::Public(it), Lane::Public) => it.range(conversation, from, limit),
            (Follow::Public(_), Lane::Staff) => Ok(Vec::new()),
            (Follow::Staff(it), lane) => it.range(conversation, lane, from, limit),
        }
    }
}

impl Public {
    pub fn new(log: Log) -> Public {
        Public(log)
    }

    /// Ascending, at or behind the cursor and below `upto`.
    pub fn since(
        &self,
        conversation: u64,
        cursor: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        since(&self.0, conversation, Lane::Public, cursor, upto, limit)
    }

    /// The newest `limit` below Seq `before` (0: the newest of all), ascending.
    pub fn page(&self, conversation: u64, before: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.0.page(conversation, Lane::Public, before, limit)
    }

    /// From a Seq on, ascending.
    pub fn range(&self, conversation: u64, from: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.0.range(conversation, Lane::Public, from, limit)
    }

    pub fn at(&self, conversation: u64, seq: u64) -> Result<Option<Record>, Error> {
        self.0.at(conversation, Lane::Public, seq)
    }
}

impl Staff {
    pub fn new(log: Log) -> Staff {
        Staff(log)
    }

    /// Both lanes merged by Position, ascending.
    pub fn since(
        &self,
        conversation: u64,
        cursor: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let mut records = since(&self.0, conversation, Lane::Public, cursor, upto, limit)?;
        records.extend(since(&self.0, conversation, Lane::Staff, cursor, upto, limit)?);
        records.sort_by_key(|record| record.position);
        Ok(records)
    }

    pub fn page(
        &self,
        conversation: u64,
        lane: Lane,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.0.page(conversation, lane, before, limit)
    }

    pub fn range(
        &self,
        conversation: u64,
        lane: Lane,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.0.range(conversation, lane, from, limit)
    }

    pub fn at(&self, conversation: u64, lane: Lane, seq: u64) -> Result<Option<Record>, Error> {
        self.0.at(conversation, lane, seq)
    }
}

fn since(
    log: &Log,
    conversation: u64,
    lane: Lane,
    cursor: Position,
    upto: Position,
    limit: usize,
) -> Result<Vec<Record>, Error> {
    let mut records = log.since(conversation, lane, cursor, limit)?;
    records.retain(|record| record.position < upto);
    Ok(records)
}
