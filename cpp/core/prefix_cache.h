// Kept prefixes: what a sequence's cache held after the first positions of a prompt, for later prompts that begin
// alike.
//
// An entry is found by what it was computed from, compared byte by byte; a changed persona simply does not match.
// Entries of an owner are looked at for that owner alone, those of owner "" for everybody. The least recently used go
// first. Threads: every method may be called from any thread; none waits for the engine.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace personaplug {

struct Prefix {
    std::string owner;
    std::string content; // Prompt::bytes() of its positions
    int length = 0;      // positions
    bool answer = false; // a chat's turn: the next turn of the same owner replaces it
    std::string state;   // llama_state_seq_get_data

    size_t size() const { return owner.size() + content.size() + state.size() + sizeof(Prefix); } // bytes
};

struct PrefixStats {
    size_t count = 0;
    size_t bytes = 0;
    int64_t hits = 0;
    int64_t misses = 0;
};

class PrefixCache {
  public:
    using Entry = std::shared_ptr<const Prefix>;

    // capacity: bytes; 0 keeps nothing.
    explicit PrefixCache(size_t capacity) : capacity_(capacity) {}

    bool enabled() const { return capacity_ > 0; }
    bool holds(size_t bytes) const { return bytes <= capacity_; } // at once
    // The longest entry of `owner`, or of everybody, that `content` begins with and is longer than; or nullptr. Counts
    // a hit or a miss.
    Entry find(const std::string &owner, const std::string &content);
    bool has(const std::string &owner, const std::string &content) const;
    // Number of the forget() calls so far: what was computed from something submitted before a forget() of its owner is
    // not taken in.
    uint64_t epoch() const;
    // False when it is larger than the whole cache, or forgotten since `epoch`.
    bool put(Prefix prefix, uint64_t epoch);
    void drop(const Entry &entry); // it could not be used
    void forget(const std::string &owner);
    void clear();
    std::vector<Entry> of(const std::string &owner) const; // the most recently used first
    PrefixStats stats() const;

  private:
    using Place = std::list<Entry>::iterator;

    void erase(Place place);
    Place place_of(const std::string &owner, const std::string &content);

    const size_t capacity_;
    mutable std::mutex mutex_;
    std::list<Entry> entries_; // the most recently used first
    std::unordered_map<std::string, std::vector<Place>> by_owner_;
    std::unordered_map<std::string, uint64_t> forgotten_; // epoch of each owner's last forget()
    uint64_t epoch_ = 0;
    uint64_t forgotten_all_ = 0; // as if everybody had been forgotten then: keeps forgotten_ short
    size_t bytes_ = 0;
    int64_t hits_ = 0;
    int64_t misses_ = 0;
};

// All entries of an owner as one string, with a header that names `fingerprint` and a digest over everything.
std::string write_prefixes(const std::vector<PrefixCache::Entry> &entries, const std::string &fingerprint);
// Nothing when the bytes are damaged, of another format, or carry another fingerprint.
std::vector<Prefix> read_prefixes(const std::string &data, const std::string &fingerprint, const std::string &owner);

} // namespace personaplug
