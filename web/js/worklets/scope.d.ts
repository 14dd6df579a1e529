// What an AudioWorkletGlobalScope offers; TypeScript's own library does not say.
declare const sampleRate: number;
declare const currentFrame: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
  constructor(options?: { processorOptions?: any });
}
declare function registerProcessor(name: string, processor: typeof AudioWorkletProcessor): void;
