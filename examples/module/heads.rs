//! The decoder heads and their adapter.

use std::error::Error;

use triplet::Cpu;
use triplet::backend::Matrix;
use triplet::heads::{
    AdapterGroup, BoxHead, BoxHeadConfig, DepthHead, DepthHeadConfig, MaskHead, MaskHeadConfig, Named,
    PoseHead, PoseHeadConfig, VdAdapter, VdAdapterConfig,
};
use triplet::vision::FeatureMap;

use crate::modules::{Forward, Outcome, Setting};
use crate::tensors::{Inputs, Map, Tensor};

/// What every head takes.
struct HeadInputs {
    maps: Vec<Map>,
    latents: Matrix<Cpu>,
}

impl HeadInputs {
    fn take(cpu: &Cpu, inputs: &Inputs) -> Result<HeadInputs, Box<dyn Error>> {
        Ok(HeadInputs { maps: inputs.maps(cpu, "features")?, latents: inputs.matrix(cpu, "latents")? })
    }

    fn features(&self) -> Vec<FeatureMap<'_, Cpu>> {
        self.maps.iter().map(|(map, grid)| FeatureMap { view: map.view(), grid: *grid }).collect()
    }
}

fn tensors(cpu: &Cpu, named: &[Named<Cpu>]) -> triplet::Result<Vec<Tensor>> {
    named.iter().map(|&(name, view)| Tensor::new(name, cpu, view)).collect()
}

pub fn box_head<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let (cpu, inputs) = (setting.cpu, HeadInputs::take(setting.cpu, inputs)?);
    let head = BoxHead::load(&setting.loader(), &BoxHeadConfig::from_fields(setting.fields)?)?;
    Ok(Box::new(move || {
        let output = head.forward(cpu, &inputs.features(), inputs.latents.view())?;
        Ok(Box::new(move |cpu: &Cpu| tensors(cpu, &output.named())) as Box<dyn Outcome>)
    }))
}

pub fn mask_head<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let (cpu, inputs) = (setting.cpu, HeadInputs::take(setting.cpu, inputs)?);
    let head = MaskHead::load(&setting.loader(), &MaskHeadConfig::from_fields(setting.fields)?)?;
    Ok(Box::new(move || {
        let output = head.forward(cpu, &inputs.features(), inputs.latents.view())?;
        Ok(Box::new(move |cpu: &Cpu| tensors(cpu, &output.named())) as Box<dyn Outcome>)
    }))
}

pub fn pose_head<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let (cpu, inputs) = (setting.cpu, HeadInputs::take(setting.cpu, inputs)?);
    let head = PoseHead::load(&setting.loader(), &PoseHeadConfig::from_fields(setting.fields)?)?;
    Ok(Box::new(move || {
        let output = head.forward(cpu, &inputs.features(), inputs.latents.view())?;
        Ok(Box::new(move |cpu: &Cpu| tensors(cpu, &output.named())) as Box<dyn Outcome>)
    }))
}

pub fn depth_head<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let (cpu, inputs) = (setting.cpu, HeadInputs::take(setting.cpu, inputs)?);
    let head = DepthHead::load(&setting.loader(), &DepthHeadConfig::from_fields(setting.fields)?)?;
    Ok(Box::new(move || {
        let output = head.forward(cpu, &inputs.features(), inputs.latents.view())?;
        Ok(Box::new(move |cpu: &Cpu| tensors(cpu, &output.named())) as Box<dyn Outcome>)
    }))
}

pub fn vd_adapter<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let cpu = setting.cpu;
    let adapter = VdAdapter::load(&setting.loader(), &VdAdapterConfig::from_fields(setting.fields)?)?;
    let (image, grid) = inputs.map(cpu, "image")?;
    let mut groups = Vec::new();
    while inputs.optional(&format!("refs.{}", groups.len())).is_some() {
        let index = groups.len();
        let refs = inputs.matrix(cpu, &format!("refs.{index}"))?;
        groups.push((refs, inputs.matrix(cpu, &format!("phrase.{index}"))?));
    }
    Ok(Box::new(move || {
        let views: Vec<AdapterGroup<Cpu>> = groups
            .iter()
            .map(|(refs, phrase)| AdapterGroup { refs: refs.view(), phrase: phrase.view() })
            .collect();
        let output = adapter.forward(cpu, image.view(), grid, &views)?;
        Ok(Box::new(move |cpu: &Cpu| {
            tensors(cpu, &[("latents", output.latents.view()), ("image", output.image.view())])
        }) as Box<dyn Outcome>)
    }))
}
