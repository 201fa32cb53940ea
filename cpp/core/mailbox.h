// Where the events of one request lie between the engine thread, which puts them, and a reader, who takes them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>

#include "sequence.h"

namespace personaplug {

// Used under the lock of its EngineThread. Events that nobody took are joined to one: a mailbox never holds more than
// what its request may generate.
struct Mailbox {
    explicit Mailbox(int64_t sequence) : sequence(sequence) {}

    enum Watch { news = 1, end = 2 };

    const int64_t sequence; // the engine's number of it
    Event event;
    bool filled = false;      // `event` holds something
    bool ended = false;       // nothing more will come
    std::exception_ptr error; // how it ended, when it failed
    Timings timings;          // once it has ended with an event
    int waiting = 0;          // threads in `changed` for whatever comes
    int waiting_end = 0;      // for the last of it
    Clock::time_point told{}; // when somebody was last woken for news
    int watch = 0;            // of Watch: what EngineThread::ready() shall tell of, once
    std::condition_variable changed;

    void put(Event &&more) {
        if (*more.finish != '\0') {
            timings = more.timings;
        }
        if (!filled) {
            event = std::move(more);
            filled = true;
            return;
        }
        event.text += more.text;
        event.tokens.insert(event.tokens.end(), more.tokens.begin(), more.tokens.end());
        event.logprobs.insert(event.logprobs.end(), more.logprobs.begin(), more.logprobs.end());
        event.top.insert(event.top.end(), more.top.begin(), more.top.end());
        event.finish = more.finish;
    }
};

} // namespace personaplug
