// The camera: live for the test area, or photos for a class as long as a button is pressed.

import { Component } from "./vendor/preact.mjs";
import { html, say, update } from "./store.js";
import { Icon, IconButton } from "./parts.js";
import { t } from "./i18n.js";

const RECORD_MS = 250;
const LIVE_MS = 400;

/** What the camera sees. `live`: each frame goes to `onPhoto`; else those while the button is pressed. */
export class Camera extends Component {
  constructor() {
    super();
    this.state = { isRecording: false, nRecorded: 0 };
    this.show = (video) => {
      this.video = video;
      if (video && this.stream) video.srcObject = this.stream;
    };
    this.start = this.start.bind(this);
    this.stop = this.stop.bind(this);
  }

  async componentDidMount() {
    try {
      // Browsers have no cameras for pages that came over plain HTTP from another machine.
      if (!navigator.mediaDevices) throw new Error(t("camera_needs_https"));
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "environment" } });
      if (this.isGone) return stopTracks(stream);
      this.stream = stream;
      if (this.video) this.video.srcObject = stream;
      if (this.props.live) this.timer = setInterval(() => this.take(), LIVE_MS);
    } catch (error) {
      say(t("no_camera", error.message));
      update({ camera: null });
    }
    return undefined;
  }

  componentWillUnmount() {
    this.isGone = true;
    clearInterval(this.timer);
    if (this.stream) stopTracks(this.stream);
  }

  start() {
    if (this.state.isRecording) return;
    this.setState({ isRecording: true });
    this.take();
    this.timer = setInterval(() => this.take(), RECORD_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.setState({ isRecording: false });
  }

  async take() {
    if (!this.video?.videoWidth) return;
    const canvas = document.createElement("canvas");
    canvas.width = this.video.videoWidth;
    canvas.height = this.video.videoHeight;
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    if (this.isGone) return;
    const time = new Date().toISOString().replace(/[:.]/g, "-");
    this.props.onPhoto(new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" }));
    this.setState(({ nRecorded }) => ({ nRecorded: nRecorded + 1 }));
  }

  render({ live }, { isRecording, nRecorded }) {
    const isHoldKey = (event) => event.key === " " || event.key === "Enter";
    const press = (event) => isHoldKey(event) && (event.preventDefault(), this.start());
    const release = (event) => isHoldKey(event) && this.stop();
    return html`<div class="camera">
      <video ref=${this.show} autoplay playsinline muted aria-label=${t("camera")}></video>
      <div class="row">
        ${!live && html`<button type="button" class=${isRecording ? "button is-main is-recording" : "button is-main"}
            onPointerDown=${this.start} onPointerUp=${this.stop} onPointerLeave=${this.stop} onPointerCancel=${this.stop}
            onKeyDown=${press} onKeyUp=${release} onBlur=${this.stop} onContextMenu=${(event) => event.preventDefault()}>
          <${Icon} name="camera" /><span>${isRecording ? t("recording", nRecorded) : t("hold_to_record")}</span>
        </button>`}
        <${IconButton} name="close" label=${t("close_camera")} onClick=${() => update({ camera: null })} />
      </div>
    </div>`;
  }
}

function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}
