#include "token_table.h"

#include <cstring>
#include <fstream>

#if defined(_WIN32)
#include <mutex>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace personaplug {

#if defined(_WIN32)
struct TokenTable::Mapping {
    std::vector<char> data; // Windows: a copy of the table, to keep this file short
    const char *begin() const { return data.data(); }

    static std::unique_ptr<Mapping> map(const std::string &path, uint64_t offset, uint64_t size) {
        auto mapping = std::make_unique<Mapping>();
        mapping->data.resize(size);
        std::ifstream file(path, std::ios::binary);
        file.seekg(static_cast<std::streamoff>(offset));
        return file.read(mapping->data.data(), static_cast<std::streamsize>(size)) ? std::move(mapping) : nullptr;
    }
};
#else
struct TokenTable::Mapping {
    void *address = nullptr;
    size_t length = 0;
    size_t skip = 0; // bytes between the page's beginning and the table's
    const char *begin() const { return static_cast<const char *>(address) + skip; }
    ~Mapping() {
        if (address != nullptr) {
            munmap(address, length);
        }
    }

    static std::unique_ptr<Mapping> map(const std::string &path, uint64_t offset, uint64_t size) {
        const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0) {
            return nullptr;
        }
        auto mapping = std::make_unique<Mapping>();
        mapping->skip = offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        mapping->length = size + mapping->skip;
        void *address =
            mmap(nullptr, mapping->length, PROT_READ, MAP_SHARED, file, static_cast<off_t>(offset - mapping->skip));
        ::close(file);
        if (address == MAP_FAILED) {
            return nullptr;
        }
        mapping->address = address;
        return mapping;
    }
};
#endif

std::unique_ptr<TokenTable> TokenTable::open(const GgufFile &file, int64_t width, int64_t rows) {
    const auto tensor = file.tensor("token_embd.weight");
    if (!tensor || tensor->width != width || tensor->rows < rows) {
        return nullptr;
    }
    if (tensor->type != GGML_TYPE_F32 && ggml_get_type_traits(tensor->type)->to_float == nullptr) {
        return nullptr;
    }
    std::unique_ptr<TokenTable> table(new TokenTable);
    table->mapping_ = Mapping::map(file.path(), tensor->offset, tensor->size);
    table->type_ = tensor->type;
    table->width_ = width;
    table->rows_ = rows;
    table->row_bytes_ = ggml_row_size(tensor->type, width);
    return table->mapping_ ? std::move(table) : nullptr;
}

TokenTable::~TokenTable() = default;

void TokenTable::read(int64_t id, float *out) const {
    const char *row = mapping_->begin() + static_cast<size_t>(id) * row_bytes_;
    if (type_ == GGML_TYPE_F32) {
        std::memcpy(out, row, row_bytes_);
    } else {
        ggml_get_type_traits(type_)->to_float(row, out, width_);
    }
}

} // namespace personaplug
