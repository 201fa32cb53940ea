#include "token_table.h"

#include <algorithm>
#include <limits>
#include <vector>

#if defined(_WIN32)
#include <filesystem>
#include <fstream>
#include <mutex>
#else
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#endif

namespace personaplug {

#if defined(_WIN32)
struct TokenTable::File {
    explicit File(const std::string &path) : stream(std::filesystem::u8path(path), std::ios::binary) {}
    bool good() const { return stream.is_open(); }
    bool read(char *out, size_t size, uint64_t offset) {
        std::lock_guard<std::mutex> lock(mutex); // a stream has one position
        stream.clear();
        stream.seekg(static_cast<std::streamoff>(offset));
        return static_cast<bool>(stream.read(out, static_cast<std::streamsize>(size)));
    }

    std::ifstream stream;
    std::mutex mutex;
};
#else
struct TokenTable::File {
    explicit File(const std::string &path) : descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
    ~File() {
        if (descriptor >= 0) {
            ::close(descriptor);
        }
    }
    File(const File &) = delete;
    File &operator=(const File &) = delete;
    bool good() const { return descriptor >= 0; }
    bool read(char *out, size_t size, uint64_t offset) const {
        while (size > 0) {
            const ssize_t got = ::pread(descriptor, out, size, static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                return false;
            }
            out += got;
            offset += static_cast<uint64_t>(got);
            size -= static_cast<size_t>(got);
        }
        return true;
    }

    int descriptor;
};
#endif

std::unique_ptr<TokenTable> TokenTable::open(const GgufFile &file) {
    const auto tensor = file.tensor("token_embd.weight");
    if (!tensor || (tensor->type != GGML_TYPE_F32 && ggml_get_type_traits(tensor->type)->to_float == nullptr)) {
        return nullptr;
    }
    std::unique_ptr<TokenTable> table(new TokenTable);
    table->file_ = std::make_unique<File>(file.path());
    table->type_ = tensor->type;
    table->offset_ = tensor->offset;
    table->width_ = tensor->width;
    table->rows_ = tensor->rows;
    table->row_bytes_ = ggml_row_size(tensor->type, tensor->width);
    return table->file_->good() ? std::move(table) : nullptr;
}

TokenTable::~TokenTable() = default;

// From the system's cache, a read of a row takes less than a microsecond.
bool TokenTable::read(int64_t id, float *out) const {
    const uint64_t offset = offset_ + static_cast<uint64_t>(id) * row_bytes_;
    bool got = false;
    if (type_ == GGML_TYPE_F32) {
        got = file_->read(reinterpret_cast<char *>(out), row_bytes_, offset);
    } else {
        thread_local std::vector<char> row; // one a thread: reading allocates nothing
        row.resize(row_bytes_);
        got = file_->read(row.data(), row_bytes_, offset);
        if (got) {
            ggml_get_type_traits(type_)->to_float(row.data(), out, width_);
        }
    }
    if (!got) {
        std::fill_n(out, width_, std::numeric_limits<float>::quiet_NaN());
    }
    return got;
}

} // namespace personaplug
