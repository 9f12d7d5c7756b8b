//! Planted one-line faults, for the tests that must catch them. Test only: without the feature `fault` [`planted`] is a
//! constant `false` and the compiler removes every trace. Those of the door and the supervisor are planted in the tests' model
//! of them.

/// A fault that a property test must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// No fault.
    None = 0,
    /// `emit`: an edge id is XORed into every anchor that carries the root.
    EdgeIntoEveryAnchor,
    /// `emit`: the mixer works without the key of its run and task.
    MixWithoutKey,
    /// `emit`: the second delivery of a fan-out gets no edge.
    FanOutEdgeSkipped,
    /// `emit`: an acked tuple reports only its own edge, not its children's.
    ChildrenForgotten,
    /// `ledger`: one tracking id for all attempts of a root.
    OneIdForAllAttempts,
    /// `ledger`: an attempt that failed goes on taking acks.
    AckAfterFail,
    /// `ledger`: an ack of an unknown attempt is applied to whatever is in its slot.
    SlotWithoutSequence,
    /// `ledger`: the retry keeps the sum of the attempt before.
    SumKeptOnRetry,
    /// `ledger`: a resolved root's record is thrown away.
    RecordDropped,
    /// `frontier`: the position moves past an unresolved root.
    PositionTooFar,
    /// `route`: `all` leaves out the last task.
    AllSkipsLast,
    /// `route`: fields grouping uses the hash without the group table.
    FieldsByRemainder,
    /// `route`: shuffle starts over instead of going round.
    ShuffleSticks,
    /// `queue`: the rest of a partly accepted batch is lost.
    PayloadDropped,
    /// `route`: partial key knows one candidate.
    OneCandidate,
    /// `plan`: a component that feeds itself waits for room in its own queue.
    SelfLoopBlocks,
    /// `queue`: a signal overtakes the tuples that were pushed before it.
    SignalOvertakes,
    /// `queue`: a back edge without room leaves an empty batch behind.
    EmptyBatch,
    /// `queue`: a push into an empty queue does not wake.
    WakeLost,
    /// `queue`: producers that wait for room are not woken.
    RoomNotTold,
    /// `signal`: end-of-stream while tuples are held.
    EndWhileHeld,
    /// `signal`: end-of-stream after the first input ended.
    EndAfterFirst,
    /// `signal`: flush never again after the first time.
    FlushOnce,
    /// `signal`: a cycle is over after one round.
    CycleAfterOneRound,
    /// `signal`: a member of a cycle that waits for the rest goes on ticking.
    IdleMemberTicks,
    /// `peer`: credit is not given back.
    CreditNotReturned,
    /// `peer`: credit is counted per link rather than per destination task.
    CreditPerLink,
    /// `peer`: what a dead worker had not confirmed is forgotten instead of failed.
    HeldNotFailed,
    /// `peer`: frames of an incarnation that is gone are taken.
    OldIncarnationTaken,
    /// `peer`: frames are not kept until they are confirmed.
    ForgottenWhenSent,
    /// `peer`: what a heartbeat says was sent is ignored.
    TailForgotten,
    /// `peer`: a confirmation counts for one frame too many.
    SequenceOffByOne,
    /// `peer`: a frame behind a gap is taken.
    GapTaken,
    /// `peer`: a frame that comes twice is taken twice.
    DuplicateTaken,
    /// `peer`: the last of several acks is not sent.
    AckSkipped,
    /// `peer`: acks for a successor that is not installed yet are dropped.
    EarlyDropped,
    /// Door: an async bolt acks when it takes a tuple rather than when its call returns.
    AckedBeforeWork,
    /// Door: the owner of roots takes acks for an earlier incarnation of itself.
    IncarnationIgnored,
    /// Door: a position is stored when its record is emitted.
    StoredTooFar,
    /// Door: a successor is not told again who has ended.
    EndNotRepeated,
    /// Door: end-of-stream is sent before the end is registered.
    EndUnregistered,
    /// Door: the members of a cycle are registered as over one by one.
    CycleEndsApart,
    /// Door: nothing is replayed after a death.
    ReplayForgotten,
}

impl Fault {
    /// Every fault, without [`Fault::None`].
    #[cfg(feature = "fault")]
    pub const ALL: [Fault; FAULTS] = [
        Fault::EdgeIntoEveryAnchor,
        Fault::MixWithoutKey,
        Fault::FanOutEdgeSkipped,
        Fault::ChildrenForgotten,
        Fault::OneIdForAllAttempts,
        Fault::AckAfterFail,
        Fault::SlotWithoutSequence,
        Fault::SumKeptOnRetry,
        Fault::RecordDropped,
        Fault::PositionTooFar,
        Fault::AllSkipsLast,
        Fault::FieldsByRemainder,
        Fault::ShuffleSticks,
        Fault::PayloadDropped,
        Fault::OneCandidate,
        Fault::SelfLoopBlocks,
        Fault::SignalOvertakes,
        Fault::EmptyBatch,
        Fault::WakeLost,
        Fault::RoomNotTold,
        Fault::EndWhileHeld,
        Fault::EndAfterFirst,
        Fault::FlushOnce,
        Fault::CycleAfterOneRound,
        Fault::IdleMemberTicks,
        Fault::CreditNotReturned,
        Fault::CreditPerLink,
        Fault::HeldNotFailed,
        Fault::OldIncarnationTaken,
        Fault::ForgottenWhenSent,
        Fault::TailForgotten,
        Fault::SequenceOffByOne,
        Fault::GapTaken,
        Fault::DuplicateTaken,
        Fault::AckSkipped,
        Fault::EarlyDropped,
        Fault::AckedBeforeWork,
        Fault::IncarnationIgnored,
        Fault::StoredTooFar,
        Fault::EndNotRepeated,
        Fault::EndUnregistered,
        Fault::CycleEndsApart,
        Fault::ReplayForgotten,
    ];
}

#[cfg(feature = "fault")]
const FAULTS: usize = Fault::ReplayForgotten as usize;

#[cfg(feature = "fault")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants `fault` in this process until the next call.
#[cfg(feature = "fault")]
pub fn plant(fault: Fault) {
    PLANTED.store(fault as u8, std::sync::atomic::Ordering::SeqCst);
}

/// Whether `fault` is planted.
#[cfg(feature = "fault")]
pub fn planted(fault: Fault) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == fault as u8
}

/// Whether `fault` is planted: never, in this build.
#[cfg(not(feature = "fault"))]
#[inline]
pub const fn planted(_fault: Fault) -> bool {
    false
}
