// A heartbeat service as one would write it in Go: net/http, encoding/json, redigo, one call of a bare counting script
// for each request. It checks no token, knows no limits, decides nothing and flushes nothing.
//
// HOURGLASS_HOST, HOURGLASS_PORT and REDIS_URL say where; GOMAXPROCS says on how many cores.
package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"
)

const (
	heartbeatPath  = "/api/v1/viewing-time/heartbeat"
	sessionPath    = "/api/v1/viewing-time/session/"
	limitMs        = 120 * 60 * 1000
	maxGapMs       = 300_000
	maxConnections = 64
	reusePort      = 0xf // SO_REUSEPORT of Linux, which package syscall lacks on some processors
	instant        = "2006-01-02T15:04:05.000Z"
)

//go:embed count.lua
var countSource string

var count = redis.NewScript(1, countSource)

type beat struct {
	ProfileID      string  `json:"profile_id"`
	TitleID        string  `json:"title_id"`
	DeviceID       string  `json:"device_id"`
	DeviceType     string  `json:"device_type"`
	SessionID      string  `json:"session_id"`
	IsPaused       bool    `json:"is_paused"`
	WatchedSeconds float64 `json:"watched_seconds"`
}

type answer struct {
	SessionID        string  `json:"session_id"`
	Enforcement      string  `json:"enforcement"`
	RemainingSeconds float64 `json:"remaining_seconds"`
	UsedSeconds      float64 `json:"used_seconds"`
	RemainingMinutes float64 `json:"remaining_minutes"`
	UsedMinutes      float64 `json:"used_minutes"`
	IsEducational    bool    `json:"is_educational"`
	StopAt           string  `json:"stop_at"`
	NextBeatIn       float64 `json:"next_beat_in"`
	LeaseSeconds     float64 `json:"lease_seconds"`
	NextResetAt      string  `json:"next_reset_at"`
	ServerTime       string  `json:"server_time"`
	ConfigVersion    int     `json:"config_version"`
	Reason           string  `json:"reason"`
	AvailableAgainAt *string `json:"available_again_at"`
}

type ended struct {
	SessionID    string  `json:"session_id"`
	TotalSeconds float64 `json:"total_seconds"`
	EndedAt      string  `json:"ended_at"`
}

type service struct {
	pool *redis.Pool
}

func (s *service) heartbeat(w http.ResponseWriter, r *http.Request) {
	var sent beat
	if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if sent.SessionID == "" {
		sent.SessionID = newID()
	}
	usedMs, atMs, err := s.count(sent.ProfileID, sent.SessionID, sent.IsPaused)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	remainingMs := limitMs - usedMs
	if remainingMs < 0 {
		remainingMs = 0
	}
	at := time.UnixMilli(atMs).UTC()
	write(w, answer{
		SessionID:        sent.SessionID,
		Enforcement:      "allowed",
		RemainingSeconds: float64(remainingMs) / 1000,
		UsedSeconds:      float64(usedMs) / 1000,
		RemainingMinutes: float64(remainingMs) / 60_000,
		UsedMinutes:      float64(usedMs) / 60_000,
		StopAt:           at.Add(time.Duration(remainingMs) * time.Millisecond).Format(instant),
		NextBeatIn:       30,
		LeaseSeconds:     300,
		NextResetAt:      at.Add(24 * time.Hour).Format(instant),
		ServerTime:       at.Format(instant),
		ConfigVersion:    1,
		Reason:           "daily_limit",
	})
}

func (s *service) end(w http.ResponseWriter, r *http.Request) {
	sessionID := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, sessionPath), "/end")
	usedMs, atMs, err := s.count("session "+sessionID, sessionID, false)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	at := time.UnixMilli(atMs).UTC().Format(instant)
	write(w, ended{SessionID: sessionID, TotalSeconds: float64(usedMs) / 1000, EndedAt: at})
}

func (s *service) count(key, sessionID string, isPaused bool) (usedMs, atMs int64, err error) {
	connection := s.pool.Get()
	defer connection.Close()
	paused := 0
	if isPaused {
		paused = 1
	}
	counted, err := redis.Int64s(count.Do(connection, "bench:go:"+key, sessionID, paused, maxGapMs))
	if err != nil {
		return 0, 0, err
	}
	return counted[0], counted[1], nil
}

func write(w http.ResponseWriter, body any) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}

func newID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		log.Fatal(err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func newPool(address string) (*redis.Pool, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	dial := func() (redis.Conn, error) { return redis.DialURL(address) }
	if parsed.Scheme == "unix" {
		dial = func() (redis.Conn, error) { return redis.Dial("unix", parsed.Path) }
	}
	return &redis.Pool{Dial: dial, MaxIdle: maxConnections, MaxActive: maxConnections, Wait: true}, nil
}

// listen shares the port, because the bench keeps it reserved.
func listen(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var refused error
		err := raw.Control(func(file uintptr) {
			refused = syscall.SetsockoptInt(int(file), syscall.SOL_SOCKET, reusePort, 1)
		})
		if err != nil {
			return err
		}
		return refused
	}}
	return config.Listen(context.Background(), "tcp", address)
}

// endWith ends this process soon after its parent.
func endWith(parent int) {
	for parent == 0 || os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	os.Exit(0)
}

func main() {
	parent := flag.Int("parent", 0, "process id of the bench")
	flag.Parse()
	pool, err := newPool(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := listen(net.JoinHostPort(os.Getenv("HOURGLASS_HOST"), os.Getenv("HOURGLASS_PORT")))
	if err != nil {
		log.Fatal(err)
	}
	go endWith(*parent)
	running := &service{pool: pool}
	http.HandleFunc(heartbeatPath, running.heartbeat)
	http.HandleFunc(sessionPath, running.end)
	log.Fatal(http.Serve(listener, nil))
}
