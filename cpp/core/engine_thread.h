// One thread that steps an Engine while there is work and sleeps otherwise, and a ticket for each request.
//
// Threads: every method may be called from any thread. Whatever decodes is done by the engine's thread; submitting
// waits for no decode, and Ticket::cancel() breaks one off. After a failure: one of Engine::submit() is thrown by
// submit(). One of Engine::step() goes to the requests that it ended; the thread goes on. After fork(): threads do not
// live in a child. There every call throws EngineError, and nothing is freed.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine.h"
#include "error.h"
#include "mailbox.h"

namespace personaplug {

class EngineThread;
using Seconds = std::chrono::duration<double>;

// A request's place in the engine thread. Its destructor forgets the request, which is cancelled unless it has ended.
class Ticket {
  public:
    Ticket(std::shared_ptr<EngineThread> thread, std::shared_ptr<Mailbox> mailbox)
        : thread_(std::move(thread)), mailbox_(std::move(mailbox)) {}
    ~Ticket();
    Ticket(const Ticket &) = delete;
    Ticket &operator=(const Ticket &) = delete;

    int64_t sequence() const { return mailbox_->sequence; }
    // Waits for the next event: all that came since the last call, joined. nullopt: none in this time. Throws the error
    // that ended the request, and EngineError when it had ended before.
    // `whole`: waits for the last event, and is not woken by others.
    std::optional<Event> next(Seconds timeout, bool whole = false);
    bool ended() const;      // whether its last event is there, or was taken
    Timings timings() const; // once it has ended
    // Ends the request and breaks off a decode that is under way for it; its "cancelled" event is still to come.
    void cancel();
    // As cancel(), and waits for nothing: the engine thread sees to it before its next step.
    void cancel_soon();
    // Makes ready() tell this sequence, once: when there is an event to take (Mailbox::news), or the last
    // (Mailbox::end).
    void watch(Mailbox::Watch what);

  private:
    std::shared_ptr<EngineThread> thread_;
    std::shared_ptr<Mailbox> mailbox_;
};

// Work that the engine thread does between two steps, and that its caller waits for.
class Call {
  public:
    // Whether it is done; throws what it threw.
    bool wait(Seconds timeout);
    // Returns when it will not run any more: at once, or after the batch that score() or logits() is at.
    void abandon();

  private:
    friend class EngineThread;
    std::function<void(Engine &)> work_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool running_ = false;
    bool done_ = false;
    std::atomic<bool> abandoned_{false};
    std::exception_ptr error_;
};

// While one lives, no step begins: what is submitted meanwhile begins together.
class Hold {
  public:
    explicit Hold(std::shared_ptr<EngineThread> thread);
    ~Hold();
    Hold(const Hold &) = delete;
    Hold &operator=(const Hold &) = delete;

  private:
    std::shared_ptr<EngineThread> thread_;
};

class EngineThread : public std::enable_shared_from_this<EngineThread> {
  public:
    static std::shared_ptr<EngineThread> start(std::shared_ptr<Engine> engine);
    ~EngineThread() { close(); }

    // As Engine::submit_samples(). Throws EngineError when closed, and what that throws.
    std::vector<std::unique_ptr<Ticket>> submit(Prompt prompt, const SamplingOptions &sampling, int count,
                                                const RequestOptions &options);
    std::unique_ptr<Ticket> submit_beams(Prompt prompt, const BeamOptions &beams, const RequestOptions &options);
    // Hands `work` over without waiting: score(), logits(). What it refers to must live until it is done or abandoned.
    std::shared_ptr<Call> call(std::function<void(Engine &)> work);
    // Waits for any of the watched tickets; their sequences. Empty: none in this time, or poke(), or closed.
    std::vector<int64_t> ready(Seconds timeout);
    void poke(); // makes one ready() return
    // Ends the thread: what runs is broken off, every waiter gets an EngineError, the engine is let go. Again: nothing.
    void close();
    bool closed() const { return stop_->closing; }
    int unfinished() const; // requests that have not ended
    int mailboxes() const { return *count_; }
    // Throws EngineError in a child of the process that made it.
    void check_process() const;

  private:
    friend class Hold;
    friend class Ticket;
    using Work = std::deque<std::shared_ptr<Call>>;
    struct Stop { // shared with the engine, which may live longer
        std::atomic<bool> closing{false};
        std::atomic<Call *> call{nullptr};
        std::atomic<std::thread::id> thread{};
    };

    explicit EngineThread(std::shared_ptr<Engine> engine);
    bool foreign() const;
    static EngineError closed_error();
    std::vector<std::unique_ptr<Ticket>> submit(const std::function<std::vector<int64_t>(Engine &)> &to_engine);
    void run();
    bool wait_for_work(Work &calls, std::vector<std::shared_ptr<Mailbox>> &unwanted);
    void run_call(Call &call);
    void step();
    void deliver(std::vector<Event> &events);
    void fail_lost(const std::exception_ptr &failure);
    void fail_all();
    void put(const std::shared_ptr<Mailbox> &box, Event &&event);
    void end(const std::shared_ptr<Mailbox> &box, const std::exception_ptr &error);
    void note(const std::shared_ptr<Mailbox> &box);
    void tell(const std::shared_ptr<Mailbox> &box, int waiting, int watched);
    void tell_late();
    void wake();
    std::shared_ptr<Mailbox> register_box(int64_t sequence);
    std::shared_ptr<Engine> open_engine() const;
    void cancel(const std::shared_ptr<Mailbox> &box, bool at_once);

    const long process_;
    std::shared_ptr<Stop> stop_ = std::make_shared<Stop>();
    std::shared_ptr<std::atomic<int>> count_ = std::make_shared<std::atomic<int>>(0); // of mailboxes

    mutable std::mutex mutex_; // of what follows, and of the mailboxes; never held while the engine works
    std::shared_ptr<Engine> engine_;
    std::condition_variable work_;                                  // the engine thread waits in it
    std::condition_variable tell_;                                  // ready() waits in it
    std::unordered_map<int64_t, std::shared_ptr<Mailbox>> running_; // by sequence; those that have not ended
    Work calls_;
    std::vector<std::shared_ptr<Mailbox>> unwanted_; // to be cancelled before the next step
    std::vector<int64_t> ready_;
    bool poked_ = false;
    bool busy_ = false;  // with calls: a cancel must not wait for them
    int cancelling_ = 0; // threads that want the engine's lock: no step begins before they had it
    int held_ = 0;
    int submitting_ = 0;
    // While submitting_: events of requests that submit() is about to give mailboxes.
    std::unordered_map<int64_t, std::vector<Event>> strays_;

    // Of the engine thread alone.
    std::vector<std::shared_ptr<Mailbox>> woken_;
    std::exception_ptr failure_; // the last one of step(), until it is known whom it cost
    bool doubt_ = false;         // whether a request may have been lost
    Clock::time_point checked_{};

    std::mutex joining_;
    std::thread thread_; // last: it uses all of the above
};

} // namespace personaplug
