//go:build linux

package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Mount is a Disk at a place in the tree of files.
type Mount struct {
	at     string
	server *fuse.Server
}

// Mount shows d at a directory, which takes the right to mount: root's. It can
// be mounted at one place at a time.
func (d *Disk) Mount(at string) (*Mount, error) {
	// Not by the library: it lets children inherit what it opens, and who has
	// that keeps a mount alive that nobody serves.
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d", fd, syscall.S_IFDIR, os.Geteuid(), os.Getegid())
	if err := syscall.Mount("rotunda-chaos", at, "fuse.chaos", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting at %s: %w", at, err), syscall.Close(fd))
	}
	server, err := fuse.NewServer(&files{RawFileSystem: fuse.NewDefaultRawFileSystem(), d: d}, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{
		DisableXAttrs: true, DisableReadDirPlus: true, MaxWrite: 128 << 10,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serving %s: %w", at, err), syscall.Unmount(at, syscall.MNT_DETACH))
	}
	go server.Serve()
	m := &Mount{at, server}
	if err := errors.Join(server.WaitMount(), unpoll(at)); err != nil {
		return nil, errors.Join(fmt.Errorf("serving %s: %w", at, err), m.Unmount())
	}
	return m, nil
}

// unpoll lets the kernel know that no file can be polled. Go's runtime asks so of
// each file that it opens, and keeps a processor until it is answered: this
// process would wait for itself.
func unpoll(at string) error {
	fd, err := syscall.Open(filepath.Join(at, ".go-fuse-epoll-hack"), syscall.O_RDONLY, 0) // which the library answers
	if err != nil {
		return fmt.Errorf("opening a file to poll: %w", err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return errors.Join(err, syscall.Close(fd))
}

// Unmount ends m. Nobody may have a file of it open; who has for a second, loses it.
func (m *Mount) Unmount() error {
	err := syscall.Unmount(m.at, 0)
	for range 100 {
		if !errors.Is(err, syscall.EBUSY) {
			break
		}
		<-time.After(10 * time.Millisecond)
		err = syscall.Unmount(m.at, 0)
	}
	if errors.Is(err, syscall.EBUSY) {
		err = syscall.Unmount(m.at, syscall.MNT_DETACH|syscall.MNT_FORCE)
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", m.at, err)
	}
	m.server.Wait()
	return nil
}
