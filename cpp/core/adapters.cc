#include "adapters.h"

#include <cstdio>

#include "digest.h"
#include "error.h"
#include "gguf_file.h"
#include "log.h"

namespace personaplug {
namespace {

constexpr size_t kChecked = 4096; // files whose check is remembered

// llama.cpp notes every adapter with its model, in a set that nothing guards: engines of several threads may share one.
std::mutex registering;

void free_adapter(llama_adapter_lora *adapter) {
    std::lock_guard<std::mutex> lock(registering);
    llama_adapter_lora_free(adapter);
}

struct Close {
    void operator()(std::FILE *file) const { std::fclose(file); }
};

// The file again, opened: nullptr when it is not what was checked any more.
std::unique_ptr<std::FILE, Close> reopen(const AdapterFile &checked) {
    std::unique_ptr<std::FILE, Close> file(std::fopen(checked.path.c_str(), "rb"));
    if (!file) {
        return nullptr;
    }
    Digest digest;
    char block[1 << 16];
    for (size_t got; (got = std::fread(block, 1, sizeof(block), file.get())) > 0;) {
        digest.add(block, got);
    }
    std::rewind(file.get());
    return digest.finish() == checked.digest ? std::move(file) : nullptr;
}

} // namespace

void use_adapter(llama_context *context, llama_adapter_lora *adapter) {
    float scale = 1.0f;
    llama_set_adapters_lora(context, &adapter, adapter != nullptr ? 1 : 0, &scale);
}

AdapterStore::AdapterStore(std::shared_ptr<const Model> model, size_t capacity, std::function<void()> before_free)
    : model_(std::move(model)), capacity_(capacity), before_free_(std::move(before_free)) {}

AdapterStore::~AdapterStore() = default;

void AdapterStore::add(const std::string &name, const std::string &path) {
    if (name.empty()) {
        throw AdapterError("the name of an adapter is empty; expected one, such as a user's id");
    }
    checked(path);
    std::lock_guard<std::mutex> lock(mutex_);
    names_[name] = path;
}

AdapterRef AdapterStore::find(const std::string &name_or_path) {
    std::string path = name_or_path;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto named = names_.find(name_or_path);
        path = named != names_.end() ? named->second : path;
    }
    return checked(path);
}

AdapterRef AdapterStore::checked(const std::string &path) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto known = checked_.find(path);
        if (known != checked_.end() && !known->second->stamp.empty() && known->second->stamp == file_stamp(path)) {
            return known->second;
        }
    }
    auto made = std::make_shared<const AdapterFile>(check_adapter(path, *model_));
    std::lock_guard<std::mutex> lock(mutex_);
    if (checked_.size() >= kChecked) {
        checked_.clear();
    }
    checked_[path] = made;
    return made;
}

AdapterHold AdapterStore::hold(const AdapterRef &file) {
    for (auto it = loaded_.begin(); it != loaded_.end(); ++it) {
        if (it->digest == file->digest) {
            loaded_.splice(loaded_.begin(), loaded_, it);
            return loaded_.front().handle;
        }
    }
    const auto source = reopen(*file);
    if (!source) {
        throw AdapterError("the adapter " + file->path + " was changed or removed since the request; ask again");
    }
    make_room(file->bytes);
    clear_log();
    llama_adapter_lora *handle = nullptr;
    try {
        std::lock_guard<std::mutex> lock(registering);
        handle = llama_adapter_lora_init_from_file_ptr(model_->handle(), source.get());
    } catch (const std::exception &failure) {
        throw AdapterError("cannot load the adapter " + file->path + ": " + failure.what());
    }
    if (handle == nullptr) {
        throw AdapterError("cannot load the adapter " + file->path + ": " + logged_errors("llama.cpp gave no reason"));
    }
    loaded_.push_front({file->digest, AdapterHold(handle, free_adapter), file->bytes});
    std::lock_guard<std::mutex> lock(mutex_);
    ++stats_.loads;
    ++stats_.count;
    stats_.bytes += file->bytes;
    return loaded_.front().handle;
}

// Frees what nobody uses, the least recently used first, until `bytes` more fit.
void AdapterStore::make_room(size_t bytes) {
    bool told = false;
    for (auto it = loaded_.end(); it != loaded_.begin() && stats_.bytes + bytes > capacity_;) {
        --it;
        if (it->handle.use_count() > 1) {
            continue;
        }
        if (!told) {
            before_free_();
            told = true;
        }
        std::lock_guard<std::mutex> lock(mutex_);
        ++stats_.evictions;
        --stats_.count;
        stats_.bytes -= it->bytes;
        it = loaded_.erase(it);
    }
}

AdapterStats AdapterStore::stats() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return stats_;
}

} // namespace personaplug
