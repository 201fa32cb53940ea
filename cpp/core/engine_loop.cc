// What the engine thread does: what was asked for, a step, and its events into the mailboxes.
#include <algorithm>

#include "engine_thread.h"
#include "error.h"

namespace personaplug {
namespace {

constexpr std::chrono::seconds kLookForLost{1};
// A reader who waits takes a core from a thread that decodes: about a hundredth of the time of a token of 8 ms. Where
// one request runs alone, and its next token is sure to follow, it is woken once a frame of a screen: nobody reads
// faster.
constexpr std::chrono::milliseconds kOftenEnough{16};

} // namespace

void EngineThread::run() {
    stop_->thread = std::this_thread::get_id();
    Work calls;
    std::vector<std::shared_ptr<Mailbox>> unwanted;
    while (wait_for_work(calls, unwanted)) {
        for (const auto &call : calls) {
            run_call(*call);
        }
        calls.clear();
        for (const auto &box : unwanted) {
            engine_->cancel(box->sequence); // no error if it has ended
        }
        unwanted.clear();
        step();
    }
    fail_all();
    stop_->thread = std::thread::id(); // the system gives it to another
}

bool EngineThread::wait_for_work(Work &calls, std::vector<std::shared_ptr<Mailbox>> &unwanted) {
    std::unique_lock<std::mutex> lock(mutex_);
    busy_ = false;
    const auto ready = [&] {
        // Also for what was dropped as it ended: else its mailbox would stay until the next request.
        const bool work = !calls_.empty() || !running_.empty() || !unwanted_.empty();
        return stop_->closing || (work && cancelling_ == 0 && held_ == 0);
    };
    if (!calls_.empty() || !ready()) {
        tell_late(); // the next step may be far away
    }
    work_.wait(lock, ready);
    if (stop_->closing) {
        return false;
    }
    calls.swap(calls_);
    unwanted.swap(unwanted_);
    busy_ = !calls.empty();
    return true;
}

void EngineThread::run_call(Call &call) {
    {
        std::lock_guard<std::mutex> lock(call.mutex_);
        if (call.abandoned_) {
            return;
        }
        call.running_ = true;
    }
    stop_->call = &call;
    std::exception_ptr error = stop_->closing ? std::make_exception_ptr(closed_error()) : nullptr;
    try {
        if (!error) {
            call.work_(*engine_);
        }
    } catch (...) {
        error = stop_->closing ? std::make_exception_ptr(closed_error()) : std::current_exception();
    }
    stop_->call = nullptr;
    {
        std::lock_guard<std::mutex> lock(call.mutex_);
        call.running_ = false;
        call.done_ = true;
        call.error_ = error;
    }
    call.changed_.notify_all();
}

void EngineThread::step() {
    std::vector<Event> events;
    bool look = doubt_;
    doubt_ = false;
    try {
        events = engine_->step();
    } catch (...) {
        failure_ = std::current_exception();
        look = doubt_ = true; // events of before the failure come with the next step
    }
    deliver(events);
    const auto now = Clock::now();
    if (look || events.empty() || now - checked_ > kLookForLost) {
        checked_ = now;
        fail_lost(failure_);
    }
}

void EngineThread::deliver(std::vector<Event> &events) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        for (Event &event : events) {
            const auto found = running_.find(event.sequence);
            if (found != running_.end()) {
                const std::shared_ptr<Mailbox> box = found->second;
                put(box, std::move(event));
            } else if (submitting_ > 0) { // else it was submitted to the engine itself
                strays_[event.sequence].push_back(std::move(event));
            }
        }
    }
    wake();
}

// Requests that the engine knows no more, after a failure or a reset.
void EngineThread::fail_lost(const std::exception_ptr &failure) {
    std::vector<std::shared_ptr<Mailbox>> lost;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (stop_->closing) {
            return; // it is close() that resets
        }
        for (const auto &[sequence, box] : running_) {
            lost.push_back(box);
        }
    }
    // Without the lock: the engine's own may be held by somebody who waits for the GIL, and who has that for this one.
    const auto is_live = [&](const auto &box) { return engine_->is_live(box->sequence); };
    lost.erase(std::remove_if(lost.begin(), lost.end(), is_live), lost.end());
    {
        std::lock_guard<std::mutex> lock(mutex_);
        for (const auto &box : lost) {
            end(box, failure ? failure
                             : std::make_exception_ptr(EngineError("sequence " + std::to_string(box->sequence) +
                                                                   " was dropped by a reset of the engine")));
        }
        if (!doubt_ && submitting_ == 0) {
            failure_ = nullptr; // what is lost later is not its work
        }
    }
    wake();
}

void EngineThread::fail_all() {
    Work calls;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        calls.swap(calls_);
        unwanted_.clear();
        const auto running = running_;
        for (const auto &[sequence, box] : running) {
            end(box, std::make_exception_ptr(closed_error()));
        }
    }
    for (const auto &call : calls) {
        run_call(*call); // sees that the thread is closing
    }
    wake();
    tell_.notify_all();
}

// Under the lock.
void EngineThread::put(const std::shared_ptr<Mailbox> &box, Event &&event) {
    const bool ends = *event.finish != '\0';
    box->put(std::move(event));
    if (ends) {
        end(box, nullptr);
    } else {
        note(box);
    }
}

// Under the lock: nothing more comes.
void EngineThread::end(const std::shared_ptr<Mailbox> &box, const std::exception_ptr &error) {
    box->ended = true;
    box->error = error;
    running_.erase(box->sequence);
    note(box);
}

// Under the lock: wakes those whose news note() kept for the next token.
void EngineThread::tell_late() {
    for (const auto &[sequence, box] : running_) {
        if (box->filled && (box->waiting > 0 || (box->watch & Mailbox::news) != 0)) {
            tell(box, box->waiting, box->watch & Mailbox::news);
        }
    }
    wake();
}

// Under the lock: who waits for this mailbox is woken by wake(), once the lock is free.
void EngineThread::note(const std::shared_ptr<Mailbox> &box) {
    const auto now = Clock::now();
    const bool due = running_.size() > 1 || now - box->told >= kOftenEnough;
    const int waiting = box->ended ? box->waiting + box->waiting_end : due ? box->waiting : 0;
    const int watched = box->watch & (box->ended ? Mailbox::news | Mailbox::end : due ? Mailbox::news : 0);
    if (waiting > 0 || watched != 0) {
        tell(box, waiting, watched);
        box->told = now;
    }
}

// Under the lock.
void EngineThread::tell(const std::shared_ptr<Mailbox> &box, int waiting, int watched) {
    if (waiting > 0) {
        woken_.push_back(box);
    }
    if (watched != 0) {
        box->watch &= ~watched;
        ready_.push_back(box->sequence);
        tell_.notify_one();
    }
}

void EngineThread::wake() {
    for (const auto &box : woken_) {
        box->changed.notify_all();
    }
    woken_.clear();
}

} // namespace personaplug
