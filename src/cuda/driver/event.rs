//! Points in a stream that can be waited for and timed.

use core::ptr;

use cust::sys::CUevent;

use super::context::Context;
use super::stream::Stream;
use crate::error::Result;

/// A point in a stream.
pub struct Event {
    context: Context,
    raw: CUevent,
}

// SAFETY: the driver's functions may be called from any thread, and the handle is valid on all of them.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Stream {
    /// A point after all that the stream was given.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device).
    pub fn event(&self) -> Result<Event> {
        let context = self.context();
        let _current = context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` can be written; 0 is an event that can be timed.
        context.check("cuEventCreate", unsafe { (context.calls().event_create)(&mut raw, 0) })?;
        let event = Event { context: context.clone(), raw };
        // SAFETY: both are of this context.
        context.check("cuEventRecord", unsafe { (context.calls().event_record)(raw, self.raw()) })?;
        Ok(event)
    }
}

impl Event {
    /// Waits until the stream is there.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device), also for what failed on the way.
    pub fn synchronize(&self) -> Result<()> {
        let _current = self.context.enter()?;
        // SAFETY: the event is there.
        let code = unsafe { (self.context.calls().event_synchronize)(self.raw) };
        self.context.check("cuEventSynchronize", code)
    }

    /// Milliseconds from `start` to this event, both of which must have been waited for.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device).
    pub fn milliseconds_since(&self, start: &Event) -> Result<f32> {
        let _current = self.context.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: both events are there; `milliseconds` can be written.
        let code =
            unsafe { (self.context.calls().event_elapsed_time)(&mut milliseconds, start.raw, self.raw) };
        self.context.check("cuEventElapsedTime", code)?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _current = self.context.enter_to_release();
        // SAFETY: created once and destroyed here.
        unsafe { (self.context.calls().event_destroy)(self.raw) };
    }
}
