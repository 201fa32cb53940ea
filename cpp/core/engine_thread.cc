// What callers of the engine thread do: begin it, hand work over, cancel, wait, close.
#include "engine_thread.h"

#include "error.h"

#ifndef _WIN32
#include <unistd.h>
#endif

namespace personaplug {
namespace {

long process() {
#ifdef _WIN32
    return 0; // no fork
#else
    return static_cast<long>(getpid());
#endif
}

} // namespace

std::shared_ptr<EngineThread> EngineThread::start(std::shared_ptr<Engine> engine) {
    // A child of fork() must free nothing: conditions that its parent's threads wait in cannot be destroyed.
    const auto free = [](EngineThread *thread) {
        if (!thread->foreign()) {
            delete thread;
        }
    };
    const std::shared_ptr<EngineThread> made(new EngineThread(std::move(engine)), free);
    made->thread_ = std::thread([thread = made.get()] { thread->run(); });
    return made;
}

EngineThread::EngineThread(std::shared_ptr<Engine> engine) : process_(process()), engine_(std::move(engine)) {
    // Ends score() and logits() between two batches, when their caller left or the LLM is closed.
    engine_->interruption = [stop = stop_, elsewhere = engine_->interruption] {
        if (std::this_thread::get_id() != stop->thread.load()) {
            if (elsewhere) {
                elsewhere();
            }
            return;
        }
        const Call *call = stop->call;
        if (stop->closing || (call != nullptr && call->abandoned_)) {
            throw CancelledError("the caller left");
        }
    };
}

EngineError EngineThread::closed_error() {
    return EngineError("this LLM is closed; expected an open one: load it again");
}

bool EngineThread::foreign() const { return process_ != process(); }

void EngineThread::check_process() const {
    if (foreign()) {
        throw EngineError(
            "this LLM was loaded by another process, before fork(), and its thread is not in this one; load "
            "the LLM in each process, or start processes with multiprocessing's \"spawn\"");
    }
}

// Under the lock.
std::shared_ptr<Engine> EngineThread::open_engine() const {
    if (stop_->closing) {
        throw closed_error();
    }
    return engine_;
}

std::vector<std::unique_ptr<Ticket>> EngineThread::submit(Prompt prompt, const SamplingOptions &sampling, int count,
                                                          const RequestOptions &options) {
    return submit([&](Engine &engine) { return engine.submit_samples(std::move(prompt), sampling, count, options); });
}

std::unique_ptr<Ticket> EngineThread::submit_beams(Prompt prompt, const BeamOptions &beams,
                                                   const RequestOptions &options) {
    auto tickets = submit(
        [&](Engine &engine) { return std::vector<int64_t>{engine.submit_beams(std::move(prompt), beams, options)}; });
    return std::move(tickets.front());
}

std::vector<std::unique_ptr<Ticket>>
EngineThread::submit(const std::function<std::vector<int64_t>(Engine &)> &to_engine) {
    check_process();
    std::shared_ptr<Engine> engine;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        engine = open_engine();
        ++submitting_;
    }
    std::vector<int64_t> sequences;
    std::exception_ptr refused;
    try {
        sequences = to_engine(*engine);
    } catch (...) {
        refused = std::current_exception();
    }
    std::vector<std::unique_ptr<Ticket>> tickets;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        try {
            for (const int64_t sequence : sequences) {
                tickets.push_back(std::make_unique<Ticket>(shared_from_this(), register_box(sequence)));
            }
        } catch (...) { // no memory
            refused = std::current_exception();
        }
        if (--submitting_ == 0) {
            strays_.clear();
        }
    }
    if (refused) {
        for (const int64_t sequence : sequences) { // nobody would read their answers
            engine->cancel(sequence);
        }
        std::rethrow_exception(refused);
    }
    work_.notify_one();
    return tickets;
}

// Under the lock: a mailbox, with what a step brought before it was there.
std::shared_ptr<Mailbox> EngineThread::register_box(int64_t sequence) {
    ++*count_;
    const std::shared_ptr<Mailbox> box(new Mailbox(sequence), [count = count_](Mailbox *mailbox) {
        --*count;
        delete mailbox;
    });
    running_[sequence] = box;
    const auto found = strays_.find(sequence);
    if (found != strays_.end()) {
        for (Event &event : found->second) {
            put(box, std::move(event));
        }
    }
    if (stop_->closing) {
        end(box, std::make_exception_ptr(closed_error()));
    }
    return box;
}

std::shared_ptr<Call> EngineThread::call(std::function<void(Engine &)> work) {
    check_process();
    auto call = std::make_shared<Call>();
    call->work_ = std::move(work);
    {
        std::lock_guard<std::mutex> lock(mutex_);
        open_engine();
        calls_.push_back(call);
    }
    work_.notify_one();
    return call;
}

void EngineThread::cancel(const std::shared_ptr<Mailbox> &box, bool at_once) {
    if (foreign()) {
        return;
    }
    std::shared_ptr<Engine> engine;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (box->ended || stop_->closing) {
            return;
        }
        if (!at_once || busy_) { // what scores for somebody is not broken off
            unwanted_.push_back(box);
        } else {
            ++cancelling_;
            engine = engine_;
        }
    }
    if (engine) {
        engine->cancel(box->sequence);
        std::lock_guard<std::mutex> lock(mutex_);
        --cancelling_;
    }
    work_.notify_one();
}

std::vector<int64_t> EngineThread::ready(Seconds timeout) {
    check_process();
    std::unique_lock<std::mutex> lock(mutex_);
    const auto told = [&] { return poked_ || !ready_.empty() || stop_->closing; };
    if (timeout >= Seconds(1e6)) {
        tell_.wait(lock, told);
    } else {
        tell_.wait_for(lock, timeout, told);
    }
    poked_ = false;
    std::vector<int64_t> numbers;
    numbers.swap(ready_);
    return numbers;
}

void EngineThread::poke() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        poked_ = true;
    }
    tell_.notify_one();
}

int EngineThread::unfinished() const {
    check_process();
    std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int>(running_.size());
}

Hold::Hold(std::shared_ptr<EngineThread> thread) : thread_(std::move(thread)) {
    thread_->check_process();
    std::lock_guard<std::mutex> lock(thread_->mutex_);
    ++thread_->held_;
}

Hold::~Hold() {
    if (thread_->foreign()) {
        return;
    }
    {
        std::lock_guard<std::mutex> lock(thread_->mutex_);
        --thread_->held_;
    }
    thread_->work_.notify_one();
}

void EngineThread::close() {
    if (foreign()) {
        return;
    }
    std::shared_ptr<Engine> engine;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stop_->closing = true;
        engine = engine_;
    }
    work_.notify_all();
    if (engine) {
        engine->reset(); // breaks off the decode that is under way
    }
    {
        std::lock_guard<std::mutex> lock(joining_);
        if (thread_.joinable()) {
            thread_.join();
        }
    }
    std::lock_guard<std::mutex> lock(mutex_);
    engine_.reset();
}

} // namespace personaplug
