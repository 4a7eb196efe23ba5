/* SPDX-License-Identifier: MIT */

/* finack for C++17: a socket that closes itself by a policy. Only this header; link with
 * libfinack. */

#ifndef FINACK_HPP
#define FINACK_HPP

#include <finack.h>

#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace finack
{

/* The defaults, as a start for a policy of your own. */
inline fin_policy default_policy() noexcept
{
    return fin_policy FIN_POLICY_INIT;
}

/* The receipt as one line for people. Throws std::bad_alloc. */
inline std::string to_string(const fin_receipt &receipt)
{
    std::string line(static_cast<std::size_t>(fin_receipt_format(&receipt, nullptr, 0)) + 1, '\0');

    fin_receipt_format(&receipt, line.data(), line.size());
    line.pop_back();
    return line;
}

/* Owns a descriptor and closes it under its policy: by close(), which returns the receipt, or in
 * the destructor. It can be moved, not copied. Without a descriptor it is false.
 *
 * wait::here: the thread that destroys the owner closes, and waits as the policy says;
 * wait::later: the library's own thread does (fin_close_later()), so that the destructor does
 * not wait. The destructor never throws. If fin_close() refuses the descriptor (a file that is
 * neither socket nor pipe), it uses close(2). */
class socket
{
  public:
    enum class wait {
        here,
        later
    };

    socket() noexcept = default;

    /* `fd` is the owner's from here on; -1: none. */
    explicit socket(int fd, const fin_policy &policy = default_policy(),
                    wait where = wait::here) noexcept
        : fd_(fd), where_(where), policy_(policy)
    {
    }

    socket(socket &&other) noexcept
        : fd_(other.release()), where_(other.where_), policy_(other.policy_)
    {
    }

    /* Closes what it had, as its destructor would. */
    socket &operator=(socket &&other) noexcept
    {
        if (this != &other) {
            end();
            fd_ = other.release();
            where_ = other.where_;
            policy_ = other.policy_;
        }
        return *this;
    }

    socket(const socket &) = delete;
    socket &operator=(const socket &) = delete;

    ~socket()
    {
        end();
    }

    explicit operator bool() const noexcept
    {
        return fd_ >= 0;
    }

    /* The descriptor, which stays the owner's; -1: none. */
    int get() const noexcept
    {
        return fd_;
    }

    /* Gives the descriptor up without closing it. */
    int release() noexcept
    {
        return std::exchange(fd_, -1);
    }

    /* How it will be closed; may be changed. */
    fin_policy &policy() noexcept
    {
        return policy_;
    }

    /* Closes now, waits as the policy says, and returns what happened. Throws std::system_error
     * with the errno of fin_close(); the descriptor is then still the owner's. */
    fin_receipt close(fin_kernel *kernel = nullptr)
    {
        fin_receipt receipt = FIN_RECEIPT_INIT;
        const int result = fin_close(kernel, fd_, &policy_, &receipt);

        if (result < 0)
            throw std::system_error(-result, std::generic_category(), "fin_close");
        fd_ = -1;
        return receipt;
    }

  private:
    void end() noexcept
    {
        if (fd_ < 0)
            return;
        if ((where_ == wait::here || fin_close_later(fd_, &policy_, nullptr, nullptr) < 0)
            && fin_close(nullptr, fd_, &policy_, nullptr) < 0)
            ::close(fd_);
        fd_ = -1;
    }

    int fd_ = -1;
    wait where_ = wait::here;
    fin_policy policy_ = default_policy();
};

} // namespace finack

#endif
