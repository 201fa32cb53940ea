// LoRA adapters: files that are checked before llama.cpp sees them, and a store that loads them on demand.
//
// An adapter belongs to a llama.cpp context, not to a sequence: requests with different adapters cannot share a decode.
// What it is is said by a digest of its file's content, so that a file that was replaced is another adapter.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "model.h"

namespace personaplug {

struct AdapterFile {
    std::string path;
    std::string digest;                              // of its content
    std::string stamp;                               // size and time of writing
    uint64_t bytes = 0;                              // of the file; loaded it takes about as many
    std::string key() const { return "a" + digest; } // in front of what is kept of a prompt: no prompt begins so
};

using AdapterRef = std::shared_ptr<const AdapterFile>;
using AdapterHold = std::shared_ptr<llama_adapter_lora>; // loaded, and never evicted while somebody holds it

// Throws AdapterError: missing, damaged, not a LoRA, of another architecture, with matrices that the model does not
// have or that differ in size, with numbers that are not finite, or of a kind that rows and tokens would see
// differently.
AdapterFile check_adapter(const std::string &path, const Model &model);

// The adapter of a context from its next decode on; nullptr: none.
void use_adapter(llama_context *context, llama_adapter_lora *adapter);

struct AdapterStats {
    size_t count = 0; // loaded
    size_t bytes = 0;
    int64_t loads = 0;
    int64_t evictions = 0;
};

// Threads: add(), find() and stats() may be called from any thread and wait for no decode. hold() and the end of the
// store belong to the engine, under its lock. Engines that share a Model may each load adapters.
class AdapterStore {
  public:
    // `capacity`: bytes of what is loaded; what is in use may exceed it. `before_free` makes every context let go.
    AdapterStore(std::shared_ptr<const Model> model, size_t capacity, std::function<void()> before_free);
    ~AdapterStore();

    // Throws as check_adapter(). The same name again stands for the other file.
    void add(const std::string &name, const std::string &path);
    // The file that was added under a name, or of a path; checked again when it has changed. Throws as check_adapter().
    AdapterRef find(const std::string &name_or_path);
    AdapterHold hold(const AdapterRef &file); // throws AdapterError
    AdapterStats stats() const;

  private:
    struct Loaded {
        std::string digest;
        AdapterHold handle;
        size_t bytes;
    };

    AdapterRef checked(const std::string &path);
    void make_room(size_t bytes);

    const std::shared_ptr<const Model> model_;
    const size_t capacity_;
    const std::function<void()> before_free_;
    mutable std::mutex mutex_;
    std::map<std::string, std::string> names_;  // to paths
    std::map<std::string, AdapterRef> checked_; // by path
    std::list<Loaded> loaded_;                  // the most recently used first
    AdapterStats stats_;
};

} // namespace personaplug
